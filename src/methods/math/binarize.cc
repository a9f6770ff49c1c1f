#include "methods/math/binarize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace whit {
namespace {

// Sums of several lanes at once: the order of additions is fixed, and no addition waits for the one before.
constexpr size_t kLanes = 4;

template <class Term>
double lane_sum(size_t count, const Term& term) {
  double sum[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) sum[lane] += term(i + lane);
  for (; i < count; ++i) sum[0] += term(i);
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// The 160 or 81 candidates: order statistics of the magnitudes at the quantiles 10 % .. 90 %, ascending.
constexpr double kLeastQuantile = 0.1, kMostQuantile = 0.9;

// Puts the elements of the wanted ranks in place, ranks ascending; about log2(ranks) sweeps instead of a sort.
void place_ranks(std::vector<float>& values, size_t begin, size_t end, std::span<const size_t> ranks) {
  if (ranks.empty() || begin >= end) return;
  const size_t middle = ranks.size() / 2, rank = ranks[middle];
  const auto at = [&](size_t k) { return values.begin() + static_cast<ptrdiff_t>(k); };
  std::nth_element(at(begin), at(rank), at(end));
  size_t left = middle, right = middle + 1;
  while (left > 0 && ranks[left - 1] == rank) --left;
  while (right < ranks.size() && ranks[right] == rank) ++right;
  place_ranks(values, begin, rank, ranks.first(left));
  place_ranks(values, rank + 1, end, ranks.subspan(right));
}

std::vector<float> quantiles(std::vector<float> values, size_t count) {
  std::vector<size_t> ranks(count);
  const double last = static_cast<double>(values.size() - 1);
  for (size_t q = 0; q < count; ++q) {
    const double share =
        kLeastQuantile + (kMostQuantile - kLeastQuantile) * static_cast<double>(q) / static_cast<double>(count - 1);
    ranks[q] = static_cast<size_t>(std::floor(share * last + 0.5));
  }
  place_ranks(values, 0, values.size(), ranks);
  std::vector<float> out(count);
  for (size_t q = 0; q < count; ++q) out[q] = values[ranks[q]];
  return out;
}

// One sign of a row: magnitudes ascending with running sums, so that sums over any range of magnitudes are two
// look-ups.
struct Half {
  std::vector<float> size;
  std::vector<double> sum, square;  // of the first k

  void sort() {
    std::sort(size.begin(), size.end());
    sum.assign(size.size() + 1, 0);
    square.assign(size.size() + 1, 0);
    for (size_t k = 0; k < size.size(); ++k) {
      sum[k + 1] = sum[k] + size[k];
      square[k + 1] = square[k] + static_cast<double>(size[k]) * size[k];
    }
  }
  size_t below(double limit) const {  // how many are < limit
    return static_cast<size_t>(std::lower_bound(size.begin(), size.end(), limit) - size.begin());
  }
};

struct Bounds {
  size_t begin, end;
};

// Squared error of order 1 on the weights of these magnitudes, with sum |x - mu| from the running sums: values on mu's
// own side are split at |mu|, all others lie beyond 0.
double range_error(const Half& positive, const Half& negative, Bounds p, Bounds n, bool means) {
  const double count = static_cast<double>(p.end - p.begin + n.end - n.begin);
  if (count == 0) return 0;
  const double p_sum = positive.sum[p.end] - positive.sum[p.begin], n_sum = negative.sum[n.end] - negative.sum[n.begin];
  const double square =
      positive.square[p.end] - positive.square[p.begin] + negative.square[n.end] - negative.square[n.begin];
  const double mu = means ? (p_sum - n_sum) / count : 0.0;
  const Half& own = mu >= 0 ? positive : negative;
  const Bounds in = mu >= 0 ? p : n, out = mu >= 0 ? n : p;
  const double own_sum = mu >= 0 ? p_sum : n_sum, other_sum = mu >= 0 ? n_sum : p_sum, distance = std::fabs(mu);
  const size_t cut = std::clamp(own.below(distance), in.begin, in.end);
  const double below = own.sum[cut] - own.sum[in.begin], above = own_sum - below;
  const double deviation = distance * static_cast<double>(cut - in.begin) - below + above -
                           distance * static_cast<double>(in.end - cut) + other_sum +
                           distance * static_cast<double>(out.end - out.begin);
  return square - count * mu * mu - deviation * deviation / count;
}

size_t least(const std::vector<double>& errors, size_t rows, size_t count) {
  size_t best = 0;
  double best_error = std::numeric_limits<double>::infinity();
  for (size_t c = 0; c < count; ++c) {
    double error = 0;
    for (size_t i = 0; i < rows; ++i) error += errors[i * count + c];
    if (error < best_error) best = c, best_error = error;
  }
  return best;
}

}  // namespace

Binarized binarize(std::span<const float> x, int order, bool means) {
  Binarized out;
  const size_t n = x.size();
  if (n == 0) return out;
  const double count = static_cast<double>(n);
  const float* v = x.data();
  const double mu = means ? lane_sum(n, [&](size_t i) { return static_cast<double>(v[i]); }) / count : 0.0;
  const double a = lane_sum(n, [&](size_t i) { return std::fabs(v[i] - mu); }) / count;
  const auto left = [&](size_t i) {
    const double r = v[i] - mu;
    return r >= 0 ? r - a : r + a;
  };
  out.mean = mu;
  out.scale[0] = a;
  if (order == 1) {
    out.error = lane_sum(n, [&](size_t i) { return left(i) * left(i); });
    return out;
  }
  const double mu2 = means ? lane_sum(n, left) / count : 0.0;
  const double a2 = lane_sum(n, [&](size_t i) { return std::fabs(left(i) - mu2); }) / count;
  out.mean += mu2;
  out.scale[1] = a2;
  out.error = lane_sum(n, [&](size_t i) {
    const double r = std::fabs(left(i) - mu2) - a2;
    return r * r;
  });
  return out;
}

size_t search_salient_count(const KeptMatrix& matrix, std::span<const size_t> order, size_t most, bool means,
                            ThreadPool& pool) {
  const size_t rows = matrix.values.rows, cols = order.size();
  most = std::min(most, cols > 0 ? cols - 1 : 0);
  if (most == 0) return 0;
  std::vector<double> errors(rows * most);
  pool.parallel_for(rows, 1, [&](size_t begin, size_t end, int) {
    std::vector<float> x(cols);
    std::vector<size_t> first(most + 1);  // kept values of the row among the first k columns
    for (size_t i = begin; i < end; ++i) {
      size_t count = 0;
      for (size_t k = 0; k < cols; ++k) {
        if (k <= most) first[k] = count;
        if (matrix.kept(i, order[k])) x[count++] = matrix.values.data[i * matrix.values.stride + order[k]];
      }
      for (size_t k = 1; k <= most; ++k)
        errors[i * most + k - 1] = binarize({x.data(), first[k]}, 2, means).error +
                                   binarize({x.data() + first[k], count - first[k]}, 2, means).error;
    }
  });
  return least(errors, rows, most) + 1;
}

int Split::region(float value) const noexcept {
  const float size = std::fabs(value);
  return size < at[0] ? 0 : size < at[1] ? 1 : 2;
}

Split search_split(const KeptMatrix& matrix, std::span<const uint8_t> salient, int regions, bool means,
                   ThreadPool& pool) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const size_t rows = matrix.values.rows, cols = matrix.values.cols;
  if (regions == 1) return {{kInfinity, kInfinity}};
  std::vector<float> sizes;
  sizes.reserve(rows * cols);
  for (size_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < cols; ++j)
      if (!salient[j] && matrix.kept(i, j))
        sizes.push_back(std::fabs(matrix.values.data[i * matrix.values.stride + j]));
  if (sizes.empty()) return {{kInfinity, kInfinity}};
  const std::vector<float> at = quantiles(std::move(sizes), regions == 2 ? 81 : 160);
  std::vector<Split> splits;
  for (const float first : at)
    if (regions == 2 || 2 * first <= at.back()) splits.push_back({{first, regions == 2 ? kInfinity : 2 * first}});
  if (splits.empty()) splits.push_back({{at.front(), 2 * at.front()}});  // magnitudes within a factor of two

  std::vector<double> errors(rows * splits.size());
  pool.parallel_for(rows, 1, [&](size_t begin, size_t end, int) {
    Half positive, negative;
    for (size_t i = begin; i < end; ++i) {
      positive.size.clear();
      negative.size.clear();
      for (size_t j = 0; j < cols; ++j) {
        if (salient[j] || !matrix.kept(i, j)) continue;
        const float value = matrix.values.data[i * matrix.values.stride + j];
        (value >= 0 ? positive : negative).size.push_back(std::fabs(value));
      }
      positive.sort();
      negative.sort();
      for (size_t s = 0; s < splits.size(); ++s) {
        double error = 0;
        Bounds p{0, 0}, n{0, 0};
        for (int region = 0; region < regions; ++region) {
          const bool last = region + 1 == regions;
          p = {p.end, last ? positive.size.size() : positive.below(splits[s].at[region])};
          n = {n.end, last ? negative.size.size() : negative.below(splits[s].at[region])};
          error += range_error(positive, negative, p, n, means);
        }
        errors[i * splits.size() + s] = error;
      }
    }
  });
  return splits[least(errors, rows, splits.size())];
}

}  // namespace whit
