#include "methods/math/layerwise.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "methods/math/pruning.h"

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
  // Each exchange lowers the sum, so none comes back. Short groups at the ends of rows can make one step of one block
  // worth another number of weights than one step of another, or than its own next; so all sizes of steps are tried.
  for (;;) {
    double best = 0;
    size_t gives = 0, takes = 0;
    unsigned less = 0, more = 0;
    for (size_t i = 0; i < blocks.size(); ++i)
      for (size_t j = 0; j < blocks.size(); ++j) {
        const BlockScores &taker = blocks[i], &giver = blocks[j];
        for (unsigned to = kept[i] + 1; j != i && to <= target.m; ++to)
          for (unsigned down = kept[j] - 1; down >= 1; --down) {
            if (taker.kept[to] - taker.kept[kept[i]] != giver.kept[kept[j]] - giver.kept[down]) continue;
            const double change = taker.loss[to] - taker.loss[kept[i]] + giver.loss[down] - giver.loss[kept[j]];
            if (change < best) best = change, takes = i, gives = j, more = to, less = down;
          }
      }
    if (!(best < 0)) return kept;
    kept[takes] = more;
    kept[gives] = less;
  }
}

}  // namespace

void add_unit(const Matrix& weights, const Matrix& scores, std::span<const float> mean_squares,
              std::span<const float> row_cost, unsigned m, ThreadPool& pool, BlockScores& block) {
  const size_t rows = weights.rows, cols = weights.cols;
  WHIT_CHECK(scores.rows == rows && scores.cols == cols && mean_squares.size() == cols && row_cost.size() == rows);
  block.kept.resize(m + 1, 0);
  block.loss.resize(m + 1, 0.0);
  std::vector<double> of_row(rows * (m + 1), 0.0), square(rows, 0.0);
  std::vector<uint8_t> dead(cols);
  for (size_t j = 0; j < cols; ++j) dead[j] = mean_squares[j] == 0;
  pool.parallel_for(rows, 1, [&](size_t begin, size_t end, int) {
    unsigned order[kEnumerativeMost];
    double lost[kEnumerativeMost + 1];  // with the first k of the order gone
    for (size_t i = begin; i < end; ++i) {
      const float* w = weights.row(i);
      for (size_t j = 0; j < cols; ++j) square[i] += static_cast<double>(w[j]) * w[j];
      for (size_t j = 0; j < cols; j += m) {
        const auto size = static_cast<unsigned>(std::min<size_t>(m, cols - j));
        pruning_order(scores.row(i) + j, dead.data() + j, size, order);
        lost[0] = 0;
        for (unsigned k = 0; k < size; ++k) {
          const size_t at = j + order[k];
          lost[k + 1] = lost[k] + static_cast<double>(w[at]) * w[at] * mean_squares[at];
        }
        for (unsigned n = 0; n <= m; ++n)
          of_row[i * (m + 1) + n] += row_cost[i] * lost[size - NmPattern{n, m}.kept_of(size)];
      }
    }
  });
  double sum = block.weight_norm * block.weight_norm;
  for (size_t i = 0; i < rows; ++i) {
    sum += square[i];
    for (unsigned n = 0; n <= m; ++n) block.loss[n] += of_row[i * (m + 1) + n];
  }
  block.weight_norm = std::sqrt(sum);
  for (unsigned n = 0; n <= m; ++n) block.kept[n] += rows * NmPattern{n, m}.kept(cols);
}

double outlier_share(std::span<const Matrix> scores, double threshold) {
  double sum = 0, count = 0;
  for (const Matrix& matrix : scores) {
    count += static_cast<double>(matrix.data.size());
    for (const float score : matrix.data) sum += score;
  }
  if (count == 0) return 0;
  uint64_t above = 0;
  for (const Matrix& matrix : scores)
    for (const float score : matrix.data) above += score > threshold * sum / count;
  return static_cast<double>(above) / count;
}

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
