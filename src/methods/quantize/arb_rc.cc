// arb_rc (ARB-LLM_RC, arXiv 2410.03129): billm's division into salient columns and regions, but a weight's scale is a
// factor of its row and block times a factor of its column, and there are no means:
//   w_ij ~ r_i c_j B_ij,  in salient columns  r_i c_j B_ij + r'_i c'_j B'_ij,  each region (zone) with factors of its
//   own.
// Start: r_i = row mean of |w|, c_j = column mean of |w_ij / r_i|, B = sign(w). Then in turns, `iterations` times,
//   r_i = sum_j t_ij c_j / sum_j c_j^2,  c_j = sum_i t_ij r_i / sum_i r_i^2,  over the zone, t = B (w - the other
//   pair),
// for the first pair and for the second; in salient columns the signs then go to the nearest of the four sums. Each
// step is a least squares solution, so sum (w - q)^2 never rises. One-sign zones keep B = sign(w): t = |w|.
//
// With a format whose `residual` is not 0 the regions go through salient columns too (the paper's column-group bitmap),
// four zones instead of three, paid for by a plane of second signs. Where we differ: the loop around it, its searches
// and what is said there of masks are billm's (math/binary_blocks.h); the paper's order of updates in salient columns
// is not spelled out, ours is the one above, (unverified). Needs the gram matrix [m, m]; time as billm and 2 n m sweeps
// an iteration.
#include <cmath>

#include "methods/math/binary_blocks.h"
#include "methods/registry.h"

namespace whit {
namespace {

struct ArbOptions {
  int iterations = 15;
  BinaryOptions binary;
  template <class V>
  void visit(V& v) {
    v("iterations", iterations, "rounds of row factors, column factors and signs", Range{0, 1000});
    binary.visit(v);
  }
};

// One block: factors of first and second signs, per row and zone and per column and zone.
class RowColumnFit {
 public:
  RowColumnFit(const BinaryBlock& block, const BinaryGroupsFormat& format, BinaryGroups& groups, ThreadPool& pool)
      : weights_(block.weights),
        begin_(block.begin),
        rows_(block.weights.values.rows),
        count_(block.weights.values.cols),
        format_(format),
        groups_(groups),
        pool_(pool),
        at_(format.layout(groups.shape.cols)),
        regions_(static_cast<size_t>(format.binary_options().regions)),
        zones_(2 * regions_) {
    for (int order = 0; order < 2; ++order) {
      row_[order].resize(rows_ * zones_);
      column_[order].resize(count_ * zones_);
    }
  }

  void run(int iterations) {
    for (int order = 0; order < 2; ++order) start(order);
    for (int round = 0; round < iterations; ++round) {
      for (int order = 0; order < 2; ++order) {
        fit_rows(order);
        fit_columns(order);
      }
      choose_signs();
    }
  }

  // Rounds the factors and chooses the signs for what is stored.
  void store(size_t block) {
    for (int order = 0; order < 2; ++order) {
      for (float& factor : row_[order]) factor = BinaryGroupsFormat::rounded(factor);
      for (float& factor : column_[order]) factor = BinaryGroupsFormat::rounded(factor);
    }
    choose_signs();
    const int regions = static_cast<int>(regions_);
    for (const bool salient : {false, true}) {
      if (salient && !at_.salient) continue;
      for (int region = 0; region < (salient && format_.binary_options().residual == 0 ? 1 : regions); ++region) {
        const BinarySlots slot = format_.slots(salient, region);
        const size_t z = zone(salient, region);
        for (size_t i = 0; i < rows_; ++i) {
          float* scale = groups_.scale.data() + (i * at_.blocks + block) * at_.scale_slots;
          scale[slot.first] = row_[0][i * zones_ + z];
          if (salient) scale[slot.second] = row_[1][i * zones_ + z];
        }
        for (size_t k = 0; k < count_; ++k) {
          const size_t j = begin_ + k;
          if ((groups_.salient[j] != 0) != salient) continue;
          groups_.column[j * at_.column_slots + static_cast<size_t>(slot.column_first)] = column_[0][k * zones_ + z];
          if (!salient) continue;
          auto& second = format_.binary_options().residual > 0 ? groups_.column_two : groups_.column;
          second[j * at_.column_slots + static_cast<size_t>(slot.column_second)] = column_[1][k * zones_ + z];
        }
      }
    }
  }

 private:
  size_t zone(bool salient, int region) const { return (salient ? regions_ : 0) + static_cast<size_t>(region); }
  size_t zone_of(size_t i, size_t k) const {
    return zone(groups_.salient[begin_ + k] != 0, groups_.region[entry(i, k)]);
  }
  size_t entry(size_t i, size_t k) const { return i * groups_.shape.cols + begin_ + k; }
  float w(size_t i, size_t k) const { return weights_.values.data[i * weights_.values.stride + k]; }
  bool takes_part(int order, size_t i, size_t k) const {
    return weights_.kept(i, k) && (order == 0 || groups_.salient[begin_ + k] != 0);
  }
  float product(int order, size_t i, size_t k, size_t z) const {
    return row_[order][i * zones_ + z] * column_[order][k * zones_ + z];
  }
  bool sign(int order, size_t i, size_t k) const { return (order == 0 ? groups_.sign : groups_.second)[entry(i, k)]; }
  // What the pair of this order shall make, times its own sign.
  float target(int order, size_t i, size_t k, size_t z) const {
    float left = w(i, k);
    if (groups_.salient[begin_ + k]) {
      const float other = product(1 - order, i, k, z);
      left -= sign(1 - order, i, k) ? other : -other;
    }
    return sign(order, i, k) ? left : -left;
  }

  // The second pair starts from what the first left: its factors are still zero when order 0 starts.
  void start(int order) {
    auto& signs = order == 0 ? groups_.sign : groups_.second;
    pool_.parallel_for(rows_, 1, [&](size_t begin, size_t end, int) {
      std::vector<double> sum(zones_), number(zones_);
      for (size_t i = begin; i < end; ++i) {
        std::fill(sum.begin(), sum.end(), 0.0);
        std::fill(number.begin(), number.end(), 0.0);
        for (size_t k = 0; k < count_; ++k) {
          if (!takes_part(order, i, k)) continue;
          const size_t z = zone_of(i, k);
          signs[entry(i, k)] = 1;
          const float t = target(order, i, k, z);
          signs[entry(i, k)] = t >= 0;
          sum[z] += std::fabs(t);
          number[z] += 1;
        }
        for (size_t z = 0; z < zones_; ++z)
          row_[order][i * zones_ + z] = number[z] > 0 ? static_cast<float>(sum[z] / number[z]) : 0.0f;
      }
    });
    columns(order, [&](size_t i, size_t k, size_t z, double& sum, double& number) {
      const double r = row_[order][i * zones_ + z];
      if (r > 0) sum += target(order, i, k, z) / r;
      number += 1;
    });
  }

  void fit_rows(int order) {
    pool_.parallel_for(rows_, 1, [&](size_t begin, size_t end, int) {
      std::vector<double> sum(zones_), square(zones_);
      for (size_t i = begin; i < end; ++i) {
        std::fill(sum.begin(), sum.end(), 0.0);
        std::fill(square.begin(), square.end(), 0.0);
        for (size_t k = 0; k < count_; ++k) {
          if (!takes_part(order, i, k)) continue;
          const size_t z = zone_of(i, k);
          const double c = column_[order][k * zones_ + z];
          sum[z] += target(order, i, k, z) * c;
          square[z] += c * c;
        }
        for (size_t z = 0; z < zones_; ++z)
          row_[order][i * zones_ + z] = square[z] > 0 ? static_cast<float>(sum[z] / square[z]) : 0.0f;
      }
    });
  }

  void fit_columns(int order) {
    columns(order, [&](size_t i, size_t k, size_t z, double& sum, double& square) {
      const double r = row_[order][i * zones_ + z];
      sum += target(order, i, k, z) * r;
      square += r * r;
    });
  }

  // column = sum / weight of the terms that `add` gives, over the rows in order.
  template <class Add>
  void columns(int order, const Add& add) {
    pool_.parallel_for(count_, 1, [&](size_t begin, size_t end, int) {
      std::vector<double> sum((end - begin) * zones_), weight(sum.size());
      for (size_t i = 0; i < rows_; ++i)
        for (size_t k = begin; k < end; ++k) {
          if (!takes_part(order, i, k)) continue;
          const size_t z = zone_of(i, k), slot = (k - begin) * zones_ + z;
          add(i, k, z, sum[slot], weight[slot]);
        }
      for (size_t slot = 0; slot < sum.size(); ++slot)
        column_[order][begin * zones_ + slot] = weight[slot] > 0 ? static_cast<float>(sum[slot] / weight[slot]) : 0.0f;
    });
  }

  void choose_signs() {
    pool_.parallel_for(rows_, 1, [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; ++i)
        for (size_t k = 0; k < count_; ++k) {
          if (!weights_.kept(i, k)) continue;
          const size_t z = zone_of(i, k);
          const bool salient = groups_.salient[begin_ + k] != 0;
          const SignPair signs = nearest_signs(w(i, k), product(0, i, k, z), salient ? product(1, i, k, z) : 0.0f);
          groups_.sign[entry(i, k)] = signs.first;
          if (salient) groups_.second[entry(i, k)] = signs.second;
        }
    });
  }

  const KeptMatrix& weights_;
  size_t begin_, rows_, count_;
  const BinaryGroupsFormat& format_;
  BinaryGroups& groups_;
  ThreadPool& pool_;
  const BinaryLayout at_;
  size_t regions_, zones_;
  std::vector<float> row_[2], column_[2];  // [rows, zones], [count, zones]
};

class ArbRc final : public BinaryQuantizer {
 public:
  explicit ArbRc(const ArbOptions& options)
      : BinaryQuantizer("arb_rc", "columns = true", options.binary), options_(options) {}
  Json options() const override { return write_options(options_); }

 private:
  bool accepts_groups(const BinaryGroupsOptions& format) const override { return format.columns; }
  void fit(const BinaryBlock& block, const BinaryGroupsFormat& format, BinaryGroups& groups,
           ThreadPool& pool) const override {
    RowColumnFit fitted(block, format, groups, pool);
    fitted.run(options_.iterations);
    fitted.store(block.index);
  }

  ArbOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(quantize, arb_rc, ArbRc, ArbOptions)

}  // namespace whit
