// stbllm (arXiv 2408.01803): binarization of a unit that was pruned to N:M. The loop of billm (see there: salient
// columns with two signs, block feedback), but three magnitude regions instead of two, found by one search:
//   p1 over 160 quantiles (10 % .. 90 %) of the magnitudes outside of salient columns, p2 = 2 p1, skipped where p2
//   passes the 90 % quantile; regions |.| < p1, p1 <= |.| < p2, p2 <= |.|; the p1 of least squared error.
// The search runs on s = w^2 / U_jj^2 as released or on the weights as the paper writes (search).
//
// Importance and pruning are steps of their own before this one (stbllm_si, nm); the recipes stbllm-* chain them.
// zeros = "masked" (ours, the default): zeros stay; they are stored as a mask and are in no group, mean or quantile and
// no target of feedback. zeros = "as_released": the published code forgets the mask after pruning, so that pruned
// weights fall into the lowest region and block feedback moves them; every weight is stored with sign and mark, and no
// zero is left. Its published figures are those of that dense model. Where every p2 passes the 90 % quantile
// (magnitudes within a factor of two) the least p1 is taken. Else as billm. Needs the gram matrix [m, m]; time as
// billm.
#include "methods/math/binary_blocks.h"
#include "methods/registry.h"

namespace whit {
namespace {

class Stbllm final : public BinaryQuantizer {
 public:
  explicit Stbllm(const BinaryOptions& options)
      : BinaryQuantizer("stbllm", "three regions, without columns", options), options_(options) {}
  Json options() const override { return write_options(options_); }

 private:
  bool accepts_groups(const BinaryGroupsOptions& format) const override {
    return format.regions == 3 && !format.columns;
  }
  void fit(const BinaryBlock& block, const BinaryGroupsFormat& format, BinaryGroups& groups,
           ThreadPool& pool) const override {
    fit_group_means(block, format, groups, pool);
  }

  BinaryOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(quantize, stbllm, Stbllm, BinaryOptions)

}  // namespace whit
