#include "format/lowrank_sign.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"
#include "methods/parametrize/parametrizations.h"
#include "methods/units.h"

namespace whit {
namespace {

constexpr size_t kRows = 7, kCols = 20, kRank = 16;

Packed random_packed(uint64_t seed) {
  Rng rng(seed);
  LowrankSignFactors f{{kRows, kCols}, {}, {}, {}, {}, {}};
  const auto fill = [&](std::vector<float>& values, size_t count) {
    for (size_t i = 0; i < count; ++i) values.push_back(static_cast<float>(rng.normal()));
  };
  fill(f.u, kRows * kRank);
  fill(f.v, kRank * kCols);
  fill(f.h, kRows);
  fill(f.l, kRank);
  fill(f.g, kCols);
  return as_lowrank_sign(make_format("lowrank_sign", {{"rank", kRank}}))->pack(f);
}

std::vector<Matrix> latents_like(const Packed& packed, float size) {
  const LowrankSignFactors f = as_lowrank_sign(packed.format)->unpack_factors(packed);
  std::vector<Matrix> latents = {Matrix(kRows, kRank), Matrix(kRank, kCols)};
  for (size_t i = 0; i < f.u.size(); ++i) latents[0].data[i] = size * f.u[i];
  for (size_t i = 0; i < f.v.size(); ++i) latents[1].data[i] = size * f.v[i];
  return latents;
}

TEST(LowrankSignParametrization, ShowsWhatIsStoredWithAndWithoutLatents) {
  const Packed packed = random_packed(1);
  const Matrix stored = tests::unpacked(packed);
  std::vector<Matrix> latents = latents_like(packed, 0.25f);
  for (const bool given : {false, true}) {
    const auto learned = make_parametrization(
        parametrization_rows(), packed, {{}, given ? std::span<const Matrix>(latents) : std::span<const Matrix>()});
    const Matrix shown = learned->materialize().matrix();
    // Terms of size |h l g| in another order: rank roundings each.
    for (size_t k = 0; k < shown.data.size(); ++k) EXPECT_NEAR(shown.data[k], stored.data[k], 1e-4f);
    EXPECT_EQ(learned->encode().parts, packed.parts);
    const auto groups = learned->parameters();
    ASSERT_EQ(groups.size(), 2u);
    EXPECT_EQ(groups[0].kind, "factors");
    EXPECT_EQ(std::fabs(groups[0].tensors[0].values()[3]), given ? 0.25f : 1.0f);
  }
  // A latent that contradicts its stored sign is not believed.
  latents[0].data[5] *= -1;
  EXPECT_EQ(make_parametrization(parametrization_rows(), packed, {{}, latents})->encode().parts, packed.parts);
}

// d L / d latent = d L / d sign; against the product written out.
TEST(LowrankSignParametrization, GradientsPassTheSigns) {
  const Packed packed = random_packed(2);
  const auto learned = make_parametrization(parametrization_rows(), packed);
  const LowrankSignFactors f = as_lowrank_sign(packed.format)->unpack_factors(packed);
  Matrix up(kRows, kCols);
  Rng rng(9);
  for (float& x : up.data) x = static_cast<float>(rng.normal());
  learned->materialize().backward(Tensor::from(up));
  const auto groups = learned->parameters();
  const std::vector<float> du = groups[0].tensors[0].grad().values(), dv = groups[0].tensors[1].grad().values(),
                           dt = groups[1].tensors[0].grad().values();
  const auto term = [&](size_t i, size_t k, size_t j) { return double{f.h[i]} * f.l[k] * f.g[j] * up.row(i)[j]; };
  for (size_t i = 0; i < kRows; ++i)
    for (size_t k = 0; k < kRank; ++k) {
      double sum = 0;
      for (size_t j = 0; j < kCols; ++j) sum += term(i, k, j) * f.v[k * kCols + j];
      EXPECT_NEAR(du[i * kRank + k], sum, 1e-4);
    }
  for (size_t k = 0; k < kRank; ++k)
    for (size_t j = 0; j < kCols; ++j) {
      double sum = 0;
      for (size_t i = 0; i < kRows; ++i) sum += term(i, k, j) * f.u[i * kRank + k];
      EXPECT_NEAR(dv[k * kCols + j], sum, 1e-4);
    }
  for (size_t i = 0; i < kRows; ++i) {  // of theta of h: sum over the row of W times dL/dW
    double sum = 0;
    const Matrix w = tests::unpacked(packed);
    for (size_t j = 0; j < kCols; ++j) sum += double{w.row(i)[j]} * up.row(i)[j];
    EXPECT_NEAR(dt[i], sum, 1e-3);
  }
}

TEST(LowrankSignParametrization, SignsFlipAndScalesMove) {
  const Packed packed = random_packed(3);
  const auto learned = make_parametrization(parametrization_rows(), packed);
  Tensor u = learned->parameters()[0].tensors[0], theta = learned->parameters()[1].tensors[0];
  {
    const NoGrad guard;
    u.assign(-u);
    theta.assign(theta + std::log(2.0));
  }
  const auto format = as_lowrank_sign(packed.format);
  const LowrankSignFactors before = format->unpack_factors(packed), after = format->unpack_factors(learned->encode());
  for (size_t i = 0; i < before.u.size(); ++i) EXPECT_EQ(after.u[i], -before.u[i]);
  for (size_t i = 0; i < before.l.size(); ++i) EXPECT_NEAR(after.l[i], 2 * before.l[i], 1e-3f * std::fabs(after.l[i]));
  {
    const NoGrad guard;
    u.assign(u * std::nan(""));
  }
  try {
    learned->encode();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::numeric);
  }
}

}  // namespace
}  // namespace whit
