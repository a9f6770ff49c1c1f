// Laws of every pruner: the asked pattern or count exactly, zeros where the mask says so, the same for any number of
// threads, equal scores by index; and the order of the published results on correlated inputs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "methods/units.h"

namespace whit {
namespace {

struct Case {
  std::string method;
  Json options;
};

// Every row of the stage; those with patterns over several.
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const MethodRow& row : method_rows()) {
    if (row.stage != Stage::prune) continue;
    const auto has = [&](const char* name) {
      return std::any_of(row.options.begin(), row.options.end(),
                         [&](const auto& option) { return option.name == name; });
    };
    if (has("m"))
      for (const auto& [n, m] :
           {std::pair{2, 4}, {4, 8}, {5, 8}, {6, 8}, {2, 8}, {3, 16}, {2, 16}, {1, 8}, {3, 7}, {9, 32}})
        all.push_back({row.name, {{"n", n}, {"m", m}}});
    if (has("sparsity"))
      for (const double sparsity : {0.3, 0.5, 0.85}) all.push_back({row.name, {{"sparsity", sparsity}}});
  }
  return all;
}

TensorState scored_unit(uint64_t seed) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(11, 172, nullptr, seed);
  make_importance("wanda", Json::object())->score(state, {pool});
  return state;
}

TEST(PruneLaws, EveryRowIsTried) {
  size_t rows = 0;
  for (const MethodRow& row : method_rows()) rows += row.stage == Stage::prune;
  std::vector<std::string> names;
  for (const Case& one : cases()) names.push_back(one.method);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(static_cast<size_t>(std::unique(names.begin(), names.end()) - names.begin()), rows);
}

TEST(PruneLaws, PatternsAndCountsAreExactForAnyThreads) {
  ThreadPool one(1), two(2);
  for (const Case& test : cases()) {
    const TensorState unit = scored_unit(51);
    TensorState state = unit, other = unit;
    const auto pruner = make_pruner(test.method, test.options);
    const StageReport report = pruner->prune(state, {one});
    pruner->prune(other, {two});
    SCOPED_TRACE(test.method + " " + test.options.dump());
    EXPECT_EQ(state.mask, other.mask);
    EXPECT_EQ(state.weights.data, other.weights.data);
    ASSERT_EQ(state.mask.size(), unit.weights.data.size());
    for (size_t k = 0; k < state.mask.size(); ++k) {
      ASSERT_LE(state.mask[k], 1);
      ASSERT_TRUE(std::isfinite(state.weights.data[k]));
      ASSERT_TRUE(state.mask[k] || state.weights.data[k] == 0);
    }
    const auto kept = static_cast<uint64_t>(std::count(state.mask.begin(), state.mask.end(), 1));
    if (const auto pattern = pruner->pattern()) {
      EXPECT_EQ(kept, 11 * pattern->kept(172));
      for (size_t i = 0; i < 11; ++i)
        EXPECT_EQ(first_other_group(*pattern, &state.mask[i * 172], 172), (172 + pattern->m - 1) / pattern->m);
    } else {
      const double sparsity = test.options.at("sparsity").get<double>();
      const double pruned = static_cast<double>(state.mask.size() - kept), asked = sparsity * 11 * 172;
      EXPECT_LE(pruned, asked + 1e-9);
      EXPECT_GT(pruned, asked - 11) << "rounded down once a row at most";
    }
    EXPECT_NEAR(report.loss, tests::trace_error(state.weights, unit.weights, unit.statistics->gram),
                1e-3 * report.loss);
  }
}

TEST(PruneLaws, EqualScoresGoByIndex) {
  ThreadPool pool(1);
  for (const Case& test : cases()) {
    TensorState state = tests::make_unit(3, 40, nullptr, 52, false);
    state.statistics = tests::uncorrelated(std::vector<float>(40, 1.0f));
    std::fill(state.weights.data.begin(), state.weights.data.end(), 0.5f);
    state.scores = state.weights;
    const auto pruner = make_pruner(test.method, test.options);
    pruner->prune(state, {pool});
    SCOPED_TRACE(test.method + " " + test.options.dump());
    // Inside whatever is compared, zeros come first: groups of m, rows, or (sweeps) blocks read row by row.
    const auto pattern = pruner->pattern();
    const size_t width = pattern ? pattern->m : 40;
    for (size_t i = 0; i < 3; ++i)
      for (size_t j = 1; j < 40; ++j)
        if (j % width != 0) EXPECT_LE(state.mask[i * 40 + j - 1], state.mask[i * 40 + j]) << i << " " << j;
  }
}

// OPT-125M at 50 % (SparseGPT's paper): magnitude 193, SparseGPT 36.9; Wanda's is between. Here as weighted errors.
TEST(PruneLaws, TheSweepBeatsWandaBeatsMagnitude) {
  ThreadPool pool(1);
  for (const uint64_t seed : {53, 54, 55})
    for (const auto& [n, m] : {std::pair{2, 4}, {4, 8}, {2, 8}}) {
      const TensorState unit = tests::make_unit(16, 128, nullptr, seed);
      const auto loss = [&](const char* importance, const char* pruner) {
        TensorState state = unit;
        make_importance(importance, Json::object())->score(state, {pool});
        return make_pruner(pruner, {{"n", n}, {"m", m}})->prune(state, {pool}).loss;
      };
      EXPECT_LT(loss("wanda", "sparsegpt"), loss("wanda", "nm"));
      EXPECT_LT(loss("wanda", "nm"), loss("magnitude", "nm"));
    }
}

// Pruned, repaired, rounded to 4 bits with feedback, packed, unpacked: no zero comes back anywhere.
TEST(PruneLaws, ZerosStayThroughTheWholeChain) {
  ThreadPool pool(2);
  for (const Case& test : cases()) {
    TensorState state = scored_unit(56);
    const auto pruner = make_pruner(test.method, test.options);
    pruner->prune(state, {pool});
    std::vector<FormatPtr> formats = {make_format("grid", {{"zero", "integer"}})};
    if (const auto pattern = pruner->pattern()) {
      const Json nm = {{"n", pattern->n}, {"m", pattern->m}, {"group", 4 * pattern->m}};
      formats.push_back(make_format("nm_grid", nm));
    }
    for (const FormatPtr& format : formats)
      for (const char* quantizer : {"rtn", "gptq"}) {
        TensorState packed = state;
        packed.plan = format;
        make_quantizer(quantizer, Json::object())->quantize(packed, {pool});
        const Matrix back = tests::unpacked(*packed.packed);
        for (size_t k = 0; k < state.mask.size(); ++k)
          ASSERT_TRUE(state.mask[k] || std::fabs(back.data[k]) < 1e-7f) << test.method << " " << format->label();
      }
  }
}

TEST(PruneLaws, NotANumberIsRefusedByName) {
  ThreadPool pool(1);
  for (const Case& test : cases()) {
    TensorState state = scored_unit(57);
    state.weights.data[5] = std::nanf("");
    try {
      make_pruner(test.method, test.options)->prune(state, {pool});
      ADD_FAILURE() << test.method;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::numeric);
      EXPECT_NE(std::string(error.what()).find(state.unit.name), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace whit
