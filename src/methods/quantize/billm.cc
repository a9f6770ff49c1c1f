// billm (arXiv 2402.04291): signs with fine scales. A few salient columns of each block of 128 get a second sign for
// what the first left over; the other weights are split by magnitude into two regions of each row and block, with a
// scale and a mean each; columns to the right make up for a block's error.
//
// H^-1 = U^T U, s_ij = w_ij^2 / U_jj^2. Per block, on the weights as the blocks before left them:
//   1. columns by sum_i s_ij; k of them, 1 .. 49, are salient so that binarizing them and the rest apart, both with two
//      signs, leaves the least squared error;
//   2. of 81 quantiles of the magnitudes outside of them, the break-point that leaves the least;
//   3. binarize (math/binarize.h): regions with one sign, salient columns with two;
//   4. E_j = (w_j - q_j) / U_jj, and later columns move by -E U. Nothing moves inside a block.
// Both searches run on s, as in the released code, or on W as the paper writes (search).
//
// Where we differ: U_jj instead of the paper's (H^-1)_jj (the released code's, the error left when the columns to the
// right can still move); quantiles are over the weights that take part, not over those and the zeros that stand for
// salient columns; signs are chosen for the means and scales as stored, and sign(0) is +; inputs that never fired keep
// their weights; a unit of stacked linears shares its salient columns. A mask of an earlier step is kept: pruned
// weights are in no group, mean or quantile and are no target of feedback (zeros = "masked"), which the released code
// does not do. regions = 1 is the ablation without the split. Needs the gram matrix [m, m]; time n m^2 + m^3 + 10
// microseconds per row and block of each search.
#include "methods/math/binary_blocks.h"
#include "methods/registry.h"

namespace whit {
namespace {

class Billm final : public BinaryQuantizer {
 public:
  explicit Billm(const BinaryOptions& options)
      : BinaryQuantizer("billm", "one or two regions, without columns", options), options_(options) {}
  Json options() const override { return write_options(options_); }

 private:
  bool accepts_groups(const BinaryGroupsOptions& format) const override {
    return format.regions <= 2 && !format.columns;
  }
  void fit(const BinaryBlock& block, const BinaryGroupsFormat& format, BinaryGroups& groups,
           ThreadPool& pool) const override {
    fit_group_means(block, format, groups, pool);
  }

  BinaryOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(quantize, billm, Billm, BinaryOptions)

}  // namespace whit
