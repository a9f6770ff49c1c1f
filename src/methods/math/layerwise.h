// Layer-wise N:M: how many weights each block keeps of a group of m, when blocks need not keep the same. Whoever has
// the whole original model measures BlockScores and asks; the answer stands as n in the steps and formats of each unit.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/options.h"
#include "base/threads.h"
#include "format/nm_pattern.h"
#include "model/torch/matrix.h"

namespace whit {

struct LayerwiseOptions {
  std::string layerwise = "uniform";
  double owl_threshold = 6;
  double owl_range = 2;
  bool owl_double = true;
  template <class V>
  void visit(V& v) {
    v("layerwise", layerwise,
      "how blocks share what is kept: all the same (uniform), those with many outlying scores more (owl), the formula "
      "of "
      "STBLLM's paper, which keeps more than the target (stbllm_paper), or exchanges by measured loss with exactly as "
      "many kept weights as uniform (exact); a recipe in a file has it resolved",
      Choices{{"uniform", "owl", "stbllm_paper", "exact"}});
    v("owl_threshold", owl_threshold, "owl: a score is outlying above this many times the block's mean score",
      Range{0, 1000});
    v("owl_range", owl_range, "owl: weights of a group between the block with most and with fewest outliers",
      Range{0, 32});
    v("owl_double", owl_double, "owl: a block that would keep one weight more keeps two more, as STBLLM's code does");
  }
};

// What the original model shows of one block under the scores of the step.
struct BlockScores {
  double outlier_share = 0;    // share of scores above owl_threshold x the block's mean score
  double weight_norm = 0;      // L2 norm of the block's weights
  std::vector<uint64_t> kept;  // [m + 1] weights that are kept with n of m
  std::vector<double> loss;    // [m + 1] what pruning to n of m costs, in nats or any unit common to all blocks
};

// Adds one unit of a block: its weights and scores [rows, cols], the mean squares of its inputs [cols], and what a
// squared error of each output costs [rows]. Pruning the weights k of a row costs, inputs taken as uncorrelated, the
// sum of row_cost w_k^2 mean_square_k; they go in the order of prune/nm.
void add_unit(const Matrix& weights, const Matrix& scores, std::span<const float> mean_squares,
              std::span<const float> row_cost, unsigned m, ThreadPool& pool, BlockScores& block);

// Share of the scores of all units of a block above threshold x their mean.
double outlier_share(std::span<const Matrix> scores, double threshold);

// n of every block, 1 .. m.
//   owl (arXiv 2310.05175, in the form of STBLLM's released code): with D_i = outlier_share, d_i = range (D_i - min D)
//   /
//     (max D - min D), e_i = round(d_i - mean d), 1 becoming 2 with owl_double, n_i = n + e_i, clipped. Not exactly the
//     target in sum.
//   stbllm_paper (arXiv 2408.01803, as its reviews quote it): alpha_i = weight_norm_i / sum weight_norm, n_i = round(m
//   (alpha_i
//     + (1 - alpha_i) n / m)), clipped. Never below the target.
//   exact (ours): from uniform on, the exchange between two blocks that lowers the summed loss most and keeps the
//   number of
//     kept weights exactly what it is, as long as one does.
std::vector<unsigned> layerwise_kept(const LayerwiseOptions& options, NmPattern target,
                                     std::span<const BlockScores> blocks);

}  // namespace whit
