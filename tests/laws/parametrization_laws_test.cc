// Laws of every learnable format: what it shows first is what was stored, encoding it gives the same bytes, gradients
// reach all of its parameters, and a few steps downhill lower the error that they descend.
#include <gtest/gtest.h>

#include <cmath>

#include "methods/parametrize/parametrizations.h"
#include "methods/units.h"

namespace whit {
namespace {

std::vector<FormatPtr> learnable() {
  std::vector<FormatPtr> all = tests::affine_variants();
  for (const char* name : {"f32", "f16", "bf16"}) all.push_back(make_format(name));
  return all;
}

Packed packed_unit(const FormatPtr& format, const TensorState& unit) {
  ThreadPool pool(1);
  TensorState state = unit;
  state.plan = format;
  make_quantizer("rtn", {{"range", "minmax"}})->quantize(state, {pool});
  return *state.packed;
}

TEST(ParametrizationLaws, ShowsWhatIsStoredAndEncodesTheSameBytes) {
  const TensorState ragged = tests::make_unit(5, 172, nullptr, 31, false),
                    blocks = tests::make_unit(5, 160, nullptr, 31, false);
  for (const FormatPtr& format : learnable()) {
    const TensorState& unit = format->is_ggml() ? blocks : ragged;
    const Packed packed = packed_unit(format, unit);
    for (const bool with_weights : {false, true}) {
      const auto learned = make_parametrization(parametrization_rows(), packed,
                                                {with_weights ? MatrixView(unit.weights) : MatrixView(), {}});
      EXPECT_EQ(learned->materialize().matrix().data, tests::unpacked(packed).data) << format->label();
      EXPECT_EQ(learned->encode().parts, packed.parts) << format->label();
    }
  }
}

TEST(ParametrizationLaws, DescendsAndStaysWhatItShows) {
  const TensorState unit = tests::make_unit(6, 64, nullptr, 32, false);
  const Tensor target = Tensor::from(unit.weights);
  for (const FormatPtr& format : learnable()) {
    Packed packed = packed_unit(format, unit);
    const auto learned = make_parametrization(parametrization_rows(), packed, {unit.weights, {}});
    const auto loss = [&] { return mean(square(learned->materialize() - target * 1.03)); };
    const double before = loss().item();
    for (int step = 0; step < 20; ++step) {
      for (const ParameterGroup& group : learned->parameters())
        for (Tensor tensor : group.tensors) tensor.clear_grad();
      loss().backward();
      const NoGrad guard;
      for (const ParameterGroup& group : learned->parameters())
        for (Tensor tensor : group.tensors) {
          const Tensor gradient = tensor.grad();
          ASSERT_TRUE(static_cast<bool>(gradient)) << format->label() << ": no gradient reaches " << group.kind;
          if (group.kind == "codes") continue;  // moving scales is smooth, so the loss must fall
          // Normalized steps: 0.3 % a step however small the gradient.
          double norm = 0;
          for (const float g : gradient.values()) norm = std::max(norm, std::fabs(static_cast<double>(g)));
          if (norm > 0) tensor.assign(tensor - gradient * (0.003 / norm));
        }
    }
    EXPECT_LT(loss().item(), before) << format->label();
    const Matrix shown = learned->materialize().matrix(), stored = tests::unpacked(learned->encode());
    double difference = 0, size = 0;
    for (size_t k = 0; k < shown.data.size(); ++k) {
      difference += std::pow(shown.data[k] - stored.data[k], 2);
      size += std::pow(shown.data[k], 2);
    }
    // Parameters of 6 bits are half a part in 63 off at most, minima half a part in 31.
    EXPECT_LT(difference, 1e-3 * size) << format->label();
  }
}

TEST(ParametrizationLaws, CodesMove) {
  const TensorState unit = tests::make_unit(2, 64, nullptr, 33, false);
  const Packed packed = packed_unit(make_format("q4_1"), unit);
  const auto learned = make_parametrization(parametrization_rows(), packed, {unit.weights, {}});
  Tensor position = learned->parameters()[0].tensors[0];
  {
    const NoGrad guard;
    position.assign(position + 1.0);
  }
  const AffineCodes before = as_affine(packed.format)->unpack_codes(packed),
                    after = as_affine(packed.format)->unpack_codes(learned->encode());
  for (size_t k = 0; k < before.codes.size(); ++k) EXPECT_EQ(after.codes[k], std::min(before.codes[k] + 1, 15));
  {
    const NoGrad guard;
    position.assign(position * std::nan(""));
  }
  EXPECT_THROW(learned->encode(), Error);
}

}  // namespace
}  // namespace whit
