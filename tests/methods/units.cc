#include "methods/units.h"

#include <algorithm>
#include <array>

#include "base/rng.h"

namespace whit::tests {

Matrix random_weights(size_t rows, size_t cols, uint64_t seed) {
  Rng rng(seed);
  std::vector<double> column(cols);
  for (double& c : column) c = 0.5 + rng.uniform();
  Matrix w(rows, cols);
  for (size_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < cols; ++j) {
      const double outlier = rng.uniform() < 0.01 ? 4.0 : 1.0;
      w.row(i)[j] = static_cast<float>(0.1 * column[j] * outlier * rng.normal());
    }
  return w;
}

std::shared_ptr<UnitStatistics> random_statistics(size_t cols, size_t tokens, uint64_t seed) {
  Rng rng(seed ^ 0x5eed);
  std::vector<double> size(cols);
  for (double& s : size) s = 0.2 + 2 * rng.uniform() * rng.uniform();
  auto statistics = std::make_shared<UnitStatistics>();
  std::vector<double> sum(cols * cols, 0.0), x(cols);
  for (size_t t = 0; t < tokens; ++t) {
    const double common = rng.normal();
    double previous = 0;
    for (size_t j = 0; j < cols; ++j) {
      previous = 0.7 * previous + rng.normal();
      x[j] = size[j] * (previous + 0.5 * common);
    }
    for (size_t i = 0; i < cols; ++i)
      for (size_t j = 0; j < cols; ++j) sum[i * cols + j] += x[i] * x[j];
  }
  statistics->gram = Matrix(cols, cols);
  for (size_t k = 0; k < sum.size(); ++k)
    statistics->gram.data[k] = static_cast<float>(sum[k] / static_cast<double>(tokens));
  statistics->tokens = tokens;
  return statistics;
}

std::shared_ptr<UnitStatistics> uncorrelated(const std::vector<float>& mean_squares) {
  auto statistics = std::make_shared<UnitStatistics>();
  statistics->tokens = 1;
  statistics->gram = Matrix(mean_squares.size(), mean_squares.size());
  for (size_t j = 0; j < mean_squares.size(); ++j) statistics->gram.row(j)[j] = mean_squares[j];
  return statistics;
}

TensorState make_unit(size_t rows, size_t cols, FormatPtr plan, uint64_t seed, bool statistics) {
  TensorState state;
  state.unit.name = "blk.0.test.weight";
  state.unit.kind = "attn_output";
  state.unit.rows = rows;
  state.unit.cols = cols;
  state.weights = random_weights(rows, cols, seed);
  state.plan = std::move(plan);
  if (statistics) state.statistics = random_statistics(cols, 4 * cols, seed);
  return state;
}

Matrix unpacked(const Packed& packed) {
  Matrix out(packed.shape.rows, packed.shape.cols);
  const std::vector<std::span<const std::byte>> parts(packed.parts.begin(), packed.parts.end());
  packed.format->unpack(packed.shape, parts, 0, packed.shape.rows, out.data.data());
  return out;
}

double trace_error(const Matrix& a, const Matrix& b, const Matrix& h) {
  double sum = 0;
  std::vector<double> d(a.cols);
  for (size_t i = 0; i < a.rows; ++i) {
    for (size_t j = 0; j < a.cols; ++j) d[j] = static_cast<double>(a.row(i)[j]) - b.row(i)[j];
    for (size_t j = 0; j < a.cols; ++j)
      for (size_t k = 0; k < a.cols; ++k) sum += d[j] * d[k] * h.row(j)[k];
  }
  return sum;
}

std::vector<FormatPtr> affine_variants() {
  std::vector<FormatPtr> all = {make_format("q8_0"), make_format("q4_0"), make_format("q4_1"), make_format("q5_0"),
                                make_format("q5_1")};
  const auto& rows = format_rows();
  if (std::none_of(rows.begin(), rows.end(), [](const FormatRow& row) { return row.name == "grid"; })) return all;
  const int groups[] = {16, 32, 128}, parameter_bits[] = {6, 8, 16};
  const char* zeros[] = {"minimum", "integer", "symmetric"};
  for (size_t b = 0; b < 6; ++b) {
    const int bits = std::array{2, 3, 4, 5, 6, 8}[b];
    // A Latin square per width, turned from width to width: every pair of values of two options meets.
    for (size_t i = 0; i < 3; ++i)
      for (size_t j = 0; j < 3; ++j)
        if ((i + b) % 2 == 0 || j == b % 3)
          all.push_back(make_format("grid", {{"bits", bits},
                                             {"group", groups[i]},
                                             {"parameter_bits", parameter_bits[j]},
                                             {"zero", zeros[(i + j + b) % 3]}}));
    all.push_back(make_format("grid", {{"bits", bits}, {"group", 0}, {"parameter_bits", 16}}));
    all.push_back(make_format("grid", {{"bits", bits}, {"group", 0}, {"columns", true}}));
  }
  return all;
}

std::vector<FormatPtr> sparse_variants() {
  std::vector<FormatPtr> all;
  const std::pair<int, int> patterns[] = {{2, 4}, {4, 8}, {6, 8}, {3, 16}};
  const char* zeros[] = {"minimum", "integer", "symmetric"};
  size_t turn = 0;
  for (const auto& [n, m] : patterns) {
    for (const int bits : {2, 3, 4, 8}) {
      const Json options = {{"n", n},
                            {"m", m},
                            {"bits", bits},
                            {"group", turn % 4 == 3 ? 0 : 32},
                            {"parameter_bits", turn % 4 == 3 ? 16 : 8},
                            {"zero", zeros[turn % 3]}};
      all.push_back(make_format("nm_grid", options));
      ++turn;
    }
    all.push_back(make_format("nm_f16", {{"n", n}, {"m", m}}));
  }
  return all;
}

std::vector<BinaryVariant> binary_variants() {
  std::vector<BinaryVariant> variants;
  for (const int regions : {1, 2, 3})
    for (const bool columns : {false, true})
      for (const int residual : {0, 8})
        for (const int n : {0, 4}) {
          if (regions == 3 && residual > 0 && n > 0) continue;  // met in pairs already
          Json options = {{"regions", regions}, {"residual", residual}, {"columns", columns}, {"n", n}};
          options["m"] = n == 0 ? 0 : 8;
          options["block"] = residual == 0 ? 128 : 64;
          options["means"] = !columns && n == 0;
          variants.push_back({make_format("binary_groups", options), columns        ? "arb_rc"
                                                                     : regions == 3 ? "stbllm"
                                                                                    : "billm"});
        }
  return variants;
}

std::vector<FormatPtr> sign_variants() {
  std::vector<FormatPtr> all = {make_format("lowrank_sign", {{"rank", 24}}),
                                make_format("lowrank_sign", {{"bits", 1.5}})};
  for (const auto& [n, m] : std::vector<std::pair<int, int>>{{2, 8}, {3, 16}, {1, 4}, {5, 7}, {8, 8}})
    for (const bool columns : {false, true})
      all.push_back(make_format("nm_sign", {{"n", n}, {"m", m}, {"columns", columns}}));
  return all;
}

void prune_to(NmPattern pattern, TensorState& state) {
  ThreadPool pool(1);
  make_importance("magnitude", Json::object())->score(state, {pool});
  make_pruner("nm", {{"n", pattern.n}, {"m", pattern.m}})->prune(state, {pool});
}

}  // namespace whit::tests
