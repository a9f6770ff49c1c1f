// The block loop that billm, stbllm and arb_rc share: one block of columns after the other is divided into salient
// columns and regions, binarized, and its error is made up for by the columns to the right.
#pragma once

#include <string>

#include "format/binary_groups.h"
#include "methods/math/binarize.h"
#include "methods/stages.h"

namespace whit {

struct BinaryOptions {
  double damp_ratio = 0.01;
  std::string search = "saliency";
  int salient_limit = 49;
  std::string zeros = "masked";
  bool feedback = true;
  template <class V>
  void visit(V& v) {
    v("damp_ratio", damp_ratio,
      "damping added to the diagonal, as a share of its mean; raised tenfold while it is not enough", Range{0, 1});
    v("search", search,
      "what both searches binarize: the saliency w^2 / U_jj^2 as the released codes do, the weights as the papers "
      "write, the weights scaled by 1 / U_jj",
      Choices{{"saliency", "weights", "scaled"}});
    v("salient_limit", salient_limit, "most salient columns of a block; 0: none", Range{0, 4096});
    v("zeros", zeros,
      "a pruned unit's zeros are kept and take part in nothing (masked), or the mask is forgotten and every weight is "
      "stored (as_released)",
      Choices{{"masked", "as_released"}});
    v("feedback", feedback, "the columns to the right make up for a block's error");
  }
};

// A block of columns [begin, begin + weights.values.cols) as it is when its turn comes.
struct BinaryBlock {
  size_t index, begin;
  KeptMatrix weights;
};

// Per row, means and scales of residual binarization (binarize.h): order 1 in the regions, 2 in salient columns. Signs
// are those of the nearest stored level, which is the papers' sign up to the rounding of means.
void fit_group_means(const BinaryBlock& block, const BinaryGroupsFormat& format, BinaryGroups& groups,
                     ThreadPool& pool);

// The signs of the level a1 s1 + a2 s2 nearest to t; the larger level in a tie.
struct SignPair {
  bool first, second;
};
SignPair nearest_signs(float t, float a1, float a2) noexcept;

class BinaryQuantizer : public Quantizer {
 public:
  // `name`: of the method; `wanted`: the options of binary_groups that it accepts, both for messages.
  BinaryQuantizer(std::string name, std::string wanted, const BinaryOptions& options)
      : name_(std::move(name)), wanted_(std::move(wanted)), options_(options) {}
  bool needs_statistics() const override { return true; }
  uint64_t scratch_bytes(Shape shape, const Format& format) const override;
  // ErrorKind::usage for a plan that it does not accept, without statistics, for a mask that the format cannot store
  // and for a format with a mask where the unit has none.
  StageReport quantize(TensorState& state, const MethodContext& context) const override;

 protected:
  virtual bool accepts_groups(const BinaryGroupsOptions& format) const = 0;
  // Sets signs, scales and means of the block's entries, rounded as the format stores them. The salient columns and the
  // regions are there already.
  virtual void fit(const BinaryBlock& block, const BinaryGroupsFormat& format, BinaryGroups& groups,
                   ThreadPool& pool) const = 0;

 private:
  bool accepts(const Format& format) const override {
    const auto* binary = dynamic_cast<const BinaryGroupsFormat*>(&format);
    return binary && accepts_groups(binary->binary_options());
  }
  std::string name_, wanted_;
  BinaryOptions options_;
};

}  // namespace whit
