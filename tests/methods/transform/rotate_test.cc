// rotate: what becomes of outliers, of the gram and of the loss; what it refuses.
#include <gtest/gtest.h>

#include <cmath>

#include "methods/units.h"

namespace whit {
namespace {

TensorState stack_unit(uint64_t seed) {
  TensorState state = tests::make_unit(40, 172, make_format("grid", {{"bits", 3}, {"columns", true}}), seed);
  state.unit.kind = "attn_qkv";
  state.unit.block = 0;
  state.unit.members = {"q", "k", "v"};
  state.unit.member_rows = {24, 8, 8};
  return state;
}

ErrorKind kind_of(const auto& call, std::string* text = nullptr) {
  try {
    call();
  } catch (const Error& error) {
    if (text) *text = error.what();
    return error.kind();
  }
  return ErrorKind::internal;
}

TEST(Rotate, OneOutlierBecomesManySmallWeights) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(8, 8, make_format("f32"), 1, false);
  state.unit.block = 0;
  std::fill(state.weights.data.begin(), state.weights.data.end(), 0.0f);
  state.weights.row(3)[5] = 8;
  make_transform("rotate", {{"seed", 3}})->transform(state, {pool});
  // Both sides are 8 x 8 Hadamard matrices: 8 / sqrt(8) / sqrt(8) everywhere.
  for (const float w : state.weights.data) EXPECT_NEAR(std::abs(w), 1.0f, 1e-6f);
  ASSERT_TRUE(state.rotation.inputs);
  ASSERT_EQ(state.rotation.outputs.size(), 1u);
  EXPECT_NE(state.rotation.inputs->signs(), state.rotation.outputs[0].rotation->signs());
}

TEST(Rotate, MembersTurnByThemselvesAndShareTheInputs) {
  ThreadPool pool(2);
  const TensorState before = stack_unit(2);
  for (const bool outputs : {true, false}) {
    TensorState after = before;
    make_transform("rotate", {{"outputs", outputs}})->transform(after, {pool});
    EXPECT_EQ(after.rotation.outputs.size(), outputs ? 3u : 0u);
    uint64_t begin = 0;
    for (const uint64_t rows : before.unit.member_rows) {  // a member alone comes back from its own rows
      Matrix part(rows, 172);
      std::copy_n(after.weights.row(begin), rows * 172, part.data.data());
      const UnitRotation own = after.rotation.rows(begin, rows);
      own.restore_inputs(part.data.data(), rows, 172);
      own.restore_outputs(part.data.data(), 172, 0, 172);
      for (size_t i = 0; i < part.data.size(); ++i)
        ASSERT_NEAR(part.data[i], before.weights.data[begin * 172 + i], 2e-6f);
      begin += rows;
    }
  }
}

// The gram's trace stays, its diagonal evens out, and it stays symmetric to the bit.
TEST(Rotate, TheGramTurnsAlong) {
  ThreadPool pool(2);
  TensorState state = stack_unit(3);
  const Matrix before = state.statistics->gram;
  make_transform("rotate", Json::object())->transform(state, {pool});
  const Matrix& after = state.statistics->gram;
  const auto spread = [](const Matrix& gram) {
    double trace = 0, largest = 0;
    for (size_t i = 0; i < gram.rows; ++i) {
      trace += gram.row(i)[i];
      largest = std::max(largest, static_cast<double>(gram.row(i)[i]));
    }
    return std::pair(trace, largest);
  };
  EXPECT_NEAR(spread(before).first, spread(after).first, 1e-5 * spread(before).first);
  EXPECT_LT(spread(after).second, spread(before).second);
  for (size_t i = 0; i < 172; ++i)
    for (size_t j = 0; j < 172; ++j) ASSERT_EQ(after.row(i)[j], after.row(j)[i]);
}

// What it is for: one scale a row and one a column are enough afterwards, at equal bits and by the same rounding.
TEST(Rotate, RowAndColumnScalesSufficeAfterwards) {
  ThreadPool pool(2);
  for (const char* method : {"rtn", "gptq"})
    for (const int bits : {2, 3}) {
      TensorState plain = tests::make_unit(96, 192, make_format("grid", {{"bits", bits}, {"columns", true}}), 4);
      plain.unit.block = 0;
      // Outliers that no column explains.
      for (size_t i = 0; i < 96; ++i) plain.weights.row(i)[i * 7 % 192] *= 8;
      TensorState rotated = plain;
      make_transform("rotate", Json::object())->transform(rotated, {pool});
      const double without = make_quantizer(method, Json::object())->quantize(plain, {pool}).relative_loss;
      const double with = make_quantizer(method, Json::object())->quantize(rotated, {pool}).relative_loss;
      EXPECT_LT(with, 0.8 * without) << method << " " << bits;
    }
}

TEST(Rotate, RefusesWhatCannotBe) {
  ThreadPool pool(1);
  const auto rotate = make_transform("rotate", Json::object());
  EXPECT_EQ(kind_of([] { make_transform("rotate", {{"inputs", false}, {"outputs", false}}); }), ErrorKind::usage);
  std::string text;
  TensorState wide = tests::make_unit(3, 2 * 257, make_format("f32"), 1, false);
  EXPECT_EQ(kind_of([&] { rotate->transform(wide, {pool}); }, &text), ErrorKind::usage);
  EXPECT_NE(text.find("cannot be rotated"), std::string::npos) << text;
  EXPECT_NE(text.find(wide.unit.name), std::string::npos) << text;
  for (const char* kind : {"token_embd", "output"}) {
    TensorState end = tests::make_unit(16, 32, make_format("f32"), 1, false);
    end.unit.kind = kind;
    EXPECT_EQ(kind_of([&] { rotate->transform(end, {pool}); }), ErrorKind::usage);
    make_transform("rotate", {{"outputs", false}})->transform(end, {pool});
    EXPECT_TRUE(end.rotation.inputs);
  }
  TensorState pruned = stack_unit(1);
  pruned.mask.assign(pruned.weights.data.size(), 1);
  EXPECT_EQ(kind_of([&] { rotate->transform(pruned, {pool}); }), ErrorKind::usage);
  TensorState scored = stack_unit(1);
  scored.scores = scored.weights;
  EXPECT_EQ(kind_of([&] { rotate->transform(scored, {pool}); }), ErrorKind::usage);
  TensorState twice = stack_unit(1);
  rotate->transform(twice, {pool});
  EXPECT_EQ(kind_of([&] { rotate->transform(twice, {pool}); }), ErrorKind::usage);
}

}  // namespace
}  // namespace whit
