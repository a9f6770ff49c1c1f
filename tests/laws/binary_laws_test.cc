// Laws of the quantizers that store signs with scales per group, over variants of their format.
#include <gtest/gtest.h>

#include <cmath>

#include "format/binary_groups.h"
#include "methods/units.h"

namespace whit {
namespace {

TensorState unit_for(const tests::BinaryVariant& variant, size_t rows, size_t cols, uint64_t seed) {
  TensorState state = tests::make_unit(rows, cols, variant.format, seed);
  if (const auto pattern = variant.format->pattern()) tests::prune_to(*pattern, state);
  return state;
}

TEST(BinaryLaws, LegalEntriesThatRoundTripTheSameForAnyThreads) {
  ThreadPool one(1), three(3);
  for (const tests::BinaryVariant& variant : tests::binary_variants()) {
    SCOPED_TRACE(variant.method + " " + variant.format->label());
    const auto method = make_quantizer(variant.method, Json::object());
    ASSERT_TRUE(method->accepts(*variant.format));
    const TensorState unit = unit_for(variant, 17, 172, 41);
    TensorState first = unit, second = unit, third = unit;
    const StageReport report = method->quantize(first, {one, 5});
    method->quantize(second, {one, 5});
    method->quantize(third, {three, 5});
    EXPECT_EQ(first.packed->parts, second.packed->parts) << "same seed, other bytes";
    EXPECT_EQ(first.packed->parts, third.packed->parts) << "other threads, other bytes";
    EXPECT_EQ(first.weights.data, unit.weights.data) << "weights are left alone";
    EXPECT_EQ(first.packed->bytes(), variant.format->bytes({17, 172}));
    const auto format = as_binary_groups(variant.format);
    EXPECT_EQ(format->pack(format->unpack_groups(*first.packed)).parts, first.packed->parts);
    const Matrix back = tests::unpacked(*first.packed);
    for (size_t k = 0; k < unit.mask.size(); ++k) ASSERT_TRUE(unit.mask[k] || back.data[k] == 0);
    EXPECT_NEAR(report.loss, tests::trace_error(back, unit.weights, unit.statistics->gram), 1e-3 * report.loss);
  }
}

// Two levels per row and block, the mean and the mean magnitude, are what every variant has and more.
TEST(BinaryLaws, NoWorseThanOneSignAndOneScale) {
  ThreadPool pool(1);
  for (const tests::BinaryVariant& variant : tests::binary_variants()) {
    if (variant.format->pattern()) continue;
    TensorState state = unit_for(variant, 16, 128, 42);
    state.statistics = tests::uncorrelated(std::vector<float>(128, 1));
    const double loss =
        make_quantizer(variant.method, {{"search", "weights"}, {"feedback", false}})->quantize(state, {pool}).loss;
    TensorState plain = state;
    plain.plan = make_format("binary_groups", {{"regions", 1}, {"means", false}});
    const double sign = make_quantizer("billm", Json::object())->quantize(plain, {pool}).loss;
    EXPECT_LE(loss, sign * (1 + 1e-3)) << variant.method << " " << variant.format->label();
  }
}

}  // namespace
}  // namespace whit
