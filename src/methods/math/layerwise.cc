#include "methods/math/layerwise.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace whit {
namespace {

unsigned clipped(double n, unsigned m) { return static_cast<unsigned>(std::clamp(n, 1.0, static_cast<double>(m))); }

std::vector<unsigned> owl(const LayerwiseOptions& options, NmPattern target, std::span<const BlockScores> blocks) {
  double least = blocks[0].outlier_share, most = least, mean = 0;
  for (const BlockScores& block : blocks) {
    least = std::min(least, block.outlier_share);
    most = std::max(most, block.outlier_share);
  }
  std::vector<double> d(blocks.size(), 0.0);
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (most > least) d[i] = options.owl_range * (blocks[i].outlier_share - least) / (most - least);
    mean += d[i] / static_cast<double>(blocks.size());
  }
  std::vector<unsigned> kept;
  for (const double value : d) {
    double extra = std::nearbyint(value - mean);
    if (extra == 1 && options.owl_double) extra = 2;
    kept.push_back(clipped(target.n + extra, target.m));
  }
  return kept;
}

std::vector<unsigned> stbllm_paper(NmPattern target, std::span<const BlockScores> blocks) {
  double sum = 0;
  for (const BlockScores& block : blocks) sum += block.weight_norm;
  std::vector<unsigned> kept;
  for (const BlockScores& block : blocks) {
    const double alpha = sum > 0 ? block.weight_norm / sum : 0.0;
    kept.push_back(clipped(std::nearbyint(target.m * alpha + (1 - alpha) * target.n), target.m));
  }
  return kept;
}

std::vector<unsigned> exact(NmPattern target, std::span<const BlockScores> blocks) {
  std::vector<unsigned> kept(blocks.size(), target.n);
  // Each exchange lowers the sum, so none comes back: at most as many as there are allotments.
  for (;;) {
    double best = 0;
    size_t gives = 0, takes = 0;
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (kept[i] == target.m) continue;
      const double gain = blocks[i].loss[kept[i]] - blocks[i].loss[kept[i] + 1];
      const uint64_t more = blocks[i].kept[kept[i] + 1] - blocks[i].kept[kept[i]];
      for (size_t j = 0; j < blocks.size(); ++j) {
        if (j == i || kept[j] == 1 || blocks[j].kept[kept[j]] - blocks[j].kept[kept[j] - 1] != more) continue;
        const double change = blocks[j].loss[kept[j] - 1] - blocks[j].loss[kept[j]] - gain;
        if (change < best) best = change, gives = j, takes = i;
      }
    }
    if (!(best < 0)) return kept;
    ++kept[takes];
    --kept[gives];
  }
}

}  // namespace

std::vector<unsigned> layerwise_kept(const LayerwiseOptions& options, NmPattern target,
                                     std::span<const BlockScores> blocks) {
  for (const BlockScores& block : blocks)
    WHIT_CHECK(block.kept.size() == target.m + 1 && block.loss.size() == target.m + 1);
  if (blocks.empty()) return {};
  if (options.layerwise == "owl") return owl(options, target, blocks);
  if (options.layerwise == "stbllm_paper") return stbllm_paper(target, blocks);
  if (options.layerwise == "exact") return exact(target, blocks);
  return std::vector<unsigned>(blocks.size(), target.n);
}

}  // namespace whit
