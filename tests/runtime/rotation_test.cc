// Rotations in the executor, on every instruction-set level, against the plain reference in double.
#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"
#include "format/format.h"
#include "runtime/cpu/dispatch.h"
#include "runtime/linear.h"
#include "runtime/rotator.h"

namespace whit {
namespace {

constexpr double kEps = 0x1p-24;

std::vector<float> random_values(size_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(count);
  for (float& x : values) x = static_cast<float>(rng.normal() * (rng.below(10) == 0 ? 100 : 1));
  return values;
}

double norm(const float* x, size_t n) {
  double square = 0;
  for (size_t i = 0; i < n; ++i) square += static_cast<double>(x[i]) * x[i];
  return std::sqrt(square);
}

// k stages, each rounding sums of at most |x|_1 <= sqrt(n) |x|; after the scale, 1 / sqrt(n) of that.
TEST(RuntimeRotation, HadamardOfEveryLength) {
  for (const std::string& name : cpu::levels()) {
    const cpu::Kernels kernels = cpu::kernels_of(name);
    for (size_t n = 1; n <= 4096; n *= 2)
      for (const size_t shift : {0, 1, 3}) {
        std::vector<float> x = random_values(n + 8, n);
        x[shift + n] = 7.0f;
        const std::vector<float> before = x;
        kernels.hadamard(x.data() + shift, n);
        ASSERT_EQ(x[shift + n], 7.0f);
        const double bound = norm(before.data() + shift, n) * kEps * (std::log2(n) + 2);
        for (size_t i = 0; i<n; i += n> 64 ? 37 : 1) {
          double sum = 0;
          for (size_t j = 0; j < n; ++j)
            sum += (__builtin_popcountll(i & j) % 2 ? -1.0 : 1.0) * static_cast<double>(before[shift + j]);
          ASSERT_NEAR(x[shift + i], sum / std::sqrt(static_cast<double>(n)), bound) << name << " " << n << " " << i;
        }
      }
  }
}

TEST(RuntimeRotation, TheRotatorIsTheReference) {
  for (const std::string& name : cpu::levels()) {
    const cpu::Kernels kernels = cpu::kernels_of(name);
    for (const size_t n : {1, 3, 4, 9, 12, 43, 64, 172, 255, 576, 960, 1536}) {
      const RotationPtr rotation = make_rotation(n, 1, 2, "n");
      const Rotation& reference = *rotation;
      const Rotator rotator(rotation);
      const std::vector<float> x = random_values(n, n);
      std::vector<float> scratch(Rotator::scratch_size(n), NAN), out(n + 1, 7.0f);
      // Q sums m terms on top of the stages of H.
      const double bound = norm(x.data(), n) * kEps * (std::log2(n) + 4 + static_cast<double>(odd_factor(n)));
      for (const bool inverse : {false, true}) {
        std::vector<float> expected = x;
        inverse ? reference.invert(expected.data(), 1, 1, n) : reference.apply(expected.data(), 1, 1, n);
        const auto run = [&](const float* from, float* to) {
          inverse ? rotator.invert(kernels, from, scratch.data(), to)
                  : rotator.apply(kernels, from, scratch.data(), to);
        };
        run(x.data(), out.data());
        ASSERT_EQ(out[n], 7.0f);
        for (size_t i = 0; i < n; ++i) ASSERT_NEAR(out[i], expected[i], bound) << name << " " << n << " " << inverse;
        std::copy(x.begin(), x.end(), out.begin());
        run(out.data(), out.data());  // in place
        for (size_t i = 0; i < n; ++i) ASSERT_NEAR(out[i], expected[i], bound) << name << " " << n << " in place";
      }
    }
  }
}

// Stacks whose members are rotated differently, beside one that is not, are what the model's own weights give.
TEST(RuntimeRotation, ProductsWithRotatedMatrices) {
  for (const size_t cols : {48, 172}) {
    const Shape shape{40, cols};
    UnitRotation rotation{make_rotation(cols, 1, 9, "i"),
                          {{0, make_rotation(24, 2, 9, "q")}, {28, make_rotation(12, 3, 9, "v")}}};
    std::vector<float> weights = random_values(shape.count() + 8 * cols, cols), turned = weights;
    turned.resize(shape.count());
    rotation.rotate_inputs(turned.data(), 40, cols);
    rotation.rotate_outputs(turned.data(), cols, 0, cols);
    auto packed = std::make_shared<Packed>(pack_dense(make_format("f32"), shape, turned));
    packed->rotation = rotation;
    const StoredTensor stack = make_stored("stack", packed, {{"q", 0, 24}, {"k", 24, 4}, {"v", 28, 12}});
    const StoredTensor plain = make_stored(
        "plain",
        std::make_shared<Packed>(pack_dense(make_format("f32"), {8, cols}, std::span(weights).subspan(shape.count()))));
    const std::vector<TensorView> views = {{&stack, 0, 24}, {&stack, 24, 4}, {&stack, 28, 12}, {&plain, 0, 8}};
    const Linear linear(views, ActivationType::fp32);
    const size_t stride = row_stride(cols);
    const std::vector<float> values = random_values(5 * cols, 3);
    Buffer<float> x(5 * stride);
    for (size_t t = 0; t < 5; ++t) std::copy_n(values.data() + t * cols, cols, x.data() + t * stride);
    for (const int threads : {1, 2})
      for (const std::string& name : cpu::levels()) {
        ThreadPool pool(threads);
        const cpu::Kernels kernels = cpu::kernels_of(name);
        Multiplier multiplier(kernels, pool, cols, 5);
        for (const size_t tokens : {size_t{1}, size_t{5}}) {  // row by row, and in panels
          std::vector<float> out(tokens * 50, 7.0f);
          multiplier.multiply(linear, x.data(), tokens, out.data(), 50);
          for (size_t t = 0; t < tokens; ++t)
            for (size_t r = 0; r < 48; ++r) {
              double sum = 0;
              for (size_t j = 0; j < cols; ++j)
                sum += static_cast<double>(weights[r * cols + j]) * values[t * cols + j];
              // Every part of the way rounds within the norms: rows of L W R^T mix up to 24 rows of W.
              const double bound = norm(weights.data(), weights.size()) * norm(values.data() + t * cols, cols) * 1e-5;
              ASSERT_NEAR(out[t * 50 + r], sum, bound) << name << " row " << r;
              ASSERT_EQ(out[t * 50 + 49], 7.0f);
            }
        }
        // A row by itself, as an embedding is read.
        const StoredTensor table = [&] {
          auto rows = std::make_shared<Packed>(pack_dense(make_format("f32"), shape, turned));
          std::vector<float> inputs_only(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(shape.count()));
          UnitRotation inputs{rotation.inputs, {}};
          inputs.rotate_inputs(inputs_only.data(), 40, cols);
          *rows = pack_dense(make_format("f32"), shape, inputs_only);
          rows->rotation = inputs;
          return make_stored("table", rows);
        }();
        const std::vector<TensorView> whole = {{&table, 0, 40}};
        std::vector<float> row(cpu::padded(cols) + 32);
        multiplier.unpack_row(Linear(whole, ActivationType::fp32), 17, row.data());
        for (size_t j = 0; j < cols; ++j)
          ASSERT_NEAR(row[j], weights[17 * cols + j], 1e-5 * norm(weights.data() + 17 * cols, cols));
      }
  }
}

}  // namespace
}  // namespace whit
