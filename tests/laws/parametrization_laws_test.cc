// Laws of every learnable format: what it shows first is what was stored, encoding it gives the same bytes, gradients
// reach all of its parameters, and a few steps downhill lower the error that they descend.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/rng.h"
#include "methods/parametrize/parametrizations.h"
#include "methods/units.h"

namespace whit {
namespace {

std::vector<FormatPtr> learnable() {
  std::vector<FormatPtr> all = tests::affine_variants();
  for (const char* name : {"f32", "f16", "bf16"}) all.push_back(make_format(name));
  for (const FormatPtr& format : tests::sparse_variants()) all.push_back(format);
  for (const tests::BinaryVariant& variant : tests::binary_variants()) all.push_back(variant.format);
  return all;
}

Packed packed_unit(const FormatPtr& format, const TensorState& unit) {
  ThreadPool pool(1);
  TensorState state = unit;
  state.plan = format;
  if (const auto pattern = format->pattern()) tests::prune_to(*pattern, state);
  for (const tests::BinaryVariant& variant : tests::binary_variants()) {
    if (variant.format->label() != format->label()) continue;
    state.statistics = tests::random_statistics(unit.weights.cols, 256, 34);
    make_quantizer(variant.method, Json::object())->quantize(state, {pool});
    return *state.packed;
  }
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

// Codes that are not the nearest to their weights (GPTQ moves some) begin in the middle of their step: a third of a step in
// either direction leaves them.
TEST(ParametrizationLaws, MovedCodesStartInTheMiddle) {
  const TensorState unit = tests::make_unit(5, 160, nullptr, 36, false);
  TensorState away = unit;
  for (size_t k = 0; k < away.weights.data.size(); ++k) away.weights.data[k] *= k % 2 ? -3.0f : 3.0f;
  for (const FormatPtr& format : tests::affine_variants()) {
    const Packed packed = packed_unit(format, unit);
    for (const double push : {0.33, -0.33}) {
      const auto learned = make_parametrization(parametrization_rows(), packed, {away.weights, {}});
      const std::vector<float> before = learned->latents().at(0).data;
      Tensor positions = learned->parameters()[0].tensors[0];
      {
        const NoGrad guard;
        positions.assign(positions + push);
      }
      size_t moved = 0;
      const std::vector<uint8_t> codes = as_affine(format)->unpack_codes(learned->encode()).codes,
                                 stored = as_affine(format)->unpack_codes(packed).codes;
      for (size_t k = 0; k < codes.size(); ++k) {
        if (before[k] != stored[k]) continue;  // inside its own step
        ++moved;
        ASSERT_EQ(codes[k], stored[k]) << format->label();
      }
      EXPECT_GT(moved, codes.size() / 4) << format->label();
    }
  }
}

// Whatever is learned, what was pruned stays zero, and no step moves it.
TEST(ParametrizationLaws, ZerosStay) {
  const TensorState unit = tests::make_unit(4, 72, nullptr, 34, false);
  for (const FormatPtr& format : tests::sparse_variants()) {
    const Packed packed = packed_unit(format, unit);
    const std::vector<uint8_t> mask = stored_mask(packed);
    const auto learned = make_parametrization(parametrization_rows(), packed, {unit.weights, {}});
    mean(square(learned->materialize() - Tensor::from(unit.weights) * 2.0)).backward();
    for (const ParameterGroup& group : learned->parameters())
      for (Tensor tensor : group.tensors) {
        const NoGrad guard;
        if (tensor.count() == static_cast<int64_t>(mask.size())) {
          const std::vector<float> gradient = tensor.grad().values();
          for (size_t k = 0; k < mask.size(); ++k) ASSERT_TRUE(mask[k] || gradient[k] == 0) << format->label();
        }
        tensor.assign(tensor + 0.3);
      }
    EXPECT_EQ(stored_mask(learned->encode()), mask) << format->label();
    const Matrix shown = learned->materialize().matrix(), stored = tests::unpacked(learned->encode());
    for (size_t k = 0; k < mask.size(); ++k)
      if (!mask[k]) ASSERT_TRUE(shown.data[k] == 0 && stored.data[k] == 0) << format->label();
  }
}

// Learning that stops and begins again from bytes and latents is where it was, up to the rounding of scales.
TEST(ParametrizationLaws, GoesOnFromItsLatents) {
  const TensorState unit = tests::make_unit(6, 64, nullptr, 35, false);
  for (const FormatPtr& format : learnable()) {
    const auto learned = make_parametrization(parametrization_rows(), packed_unit(format, unit), {unit.weights, {}});
    Rng rng(36);
    for (const ParameterGroup& group : learned->parameters())
      for (Tensor tensor : group.tensors) {
        std::vector<float> values = tensor.values();
        for (float& value : values) value += static_cast<float>((group.kind == "codes" ? 0.6 : 0.05) * rng.normal());
        tensor.assign(Tensor::from(values, tensor.shape()));
      }
    const Packed stored = learned->encode();
    const std::vector<Matrix> latents = learned->latents();
    const std::vector<uint8_t> mask = format->pattern() ? stored_mask(stored) : std::vector<uint8_t>();
    // Where nothing is rounded but scales, there is nothing to tell.
    const std::set<std::string> plain = {"f32", "f16", "bf16", "nm_f16", "binary_groups"};
    EXPECT_EQ(latents.empty(), plain.contains(format->name())) << format->label();
    const auto again = make_parametrization(parametrization_rows(), stored, {{}, latents});
    EXPECT_EQ(again->materialize().matrix().data, tests::unpacked(stored).data) << format->label();
    EXPECT_EQ(again->encode().parts, stored.parts) << format->label();
    ASSERT_EQ(again->latents().size(), latents.size()) << format->label();
    for (size_t i = 0; i < latents.size(); ++i)
      for (size_t k = 0; k < latents[i].data.size(); ++k) {
        const float before = latents[i].data[k], after = again->latents()[i].data[k];
        // A code outside of its range starts at the end of it, one that a mask hides anywhere; ties are kept clear of.
        const auto affine = as_affine(format);
        const bool inside = !affine || ((mask.empty() || mask[k]) && before >= 0 &&
                                        before <= static_cast<float>(affine->levels() - 1));
        if (inside) ASSERT_NEAR(after, before, 2e-3 * std::max(1.0f, std::fabs(before))) << format->label() << " " << k;
      }
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
