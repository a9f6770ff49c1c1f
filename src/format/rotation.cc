#include "format/rotation.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/rng.h"

namespace whit {
namespace {

// Vectors that go through the reference together, element by element.
constexpr uint64_t kLanes = 8;

// Every run [length][kLanes] <- H run / sqrt(length)
void hadamard(double* x, uint64_t length) {
  for (uint64_t h = 1; h < length; h *= 2)
    for (uint64_t base = 0; base < length; base += 2 * h)
      for (uint64_t i = base; i < base + h; ++i) {
        double *a = x + i * kLanes, *b = x + (i + h) * kLanes;
        for (uint64_t l = 0; l < kLanes; ++l) {
          const double sum = a[l] + b[l], difference = a[l] - b[l];
          a[l] = sum;
          b[l] = difference;
        }
      }
  const double scale = 1.0 / std::sqrt(static_cast<double>(length));
  for (uint64_t i = 0; i < length * kLanes; ++i) x[i] *= scale;
}

// out run r = sum over c of Q[r][c] (transposed: Q[c][r]) x run c.
void mix_runs(const Rotation& rotation, bool transposed, const double* x, double* out) {
  const uint64_t m = rotation.runs(), length = rotation.run() * kLanes;
  const std::vector<float>& q = rotation.factor();
  for (uint64_t r = 0; r < m; ++r) {
    double* to = out + r * length;
    std::fill_n(to, length, 0.0);
    for (uint64_t c = 0; c < m; ++c) {
      const double factor = transposed ? q[c * m + r] : q[r * m + c];
      for (uint64_t i = 0; i < length; ++i) to[i] += factor * x[c * length + i];
    }
  }
}

void run_lanes(const Rotation& rotation, bool inverse, std::vector<double>& x, std::vector<double>& other) {
  const uint64_t length = rotation.run() * kLanes;
  const auto signs = [&] {
    for (uint64_t i = 0; i < rotation.size(); ++i)
      for (uint64_t l = 0; l < kLanes; ++l) x[i * kLanes + l] *= rotation.signs()[i];
  };
  const auto mix = [&] {
    if (rotation.runs() == 1) return;
    mix_runs(rotation, inverse, x.data(), other.data());
    x.swap(other);
  };
  const auto transform = [&] {
    for (uint64_t r = 0; r < rotation.runs(); ++r) hadamard(x.data() + r * length, rotation.run());
  };
  if (inverse) {
    mix();
    transform();
    signs();
  } else {
    signs();
    transform();
    mix();
  }
}

void run_all(const Rotation& rotation, bool inverse, float* x, uint64_t vectors, uint64_t step, uint64_t stride) {
  const uint64_t n = rotation.size();
  std::vector<double> lanes(n * kLanes), other(rotation.runs() > 1 ? n * kLanes : 0);
  for (uint64_t v = 0; v < vectors; v += kLanes) {
    const uint64_t count = std::min(kLanes, vectors - v);
    for (uint64_t i = 0; i < n; ++i)
      for (uint64_t l = 0; l < kLanes; ++l)
        lanes[i * kLanes + l] = l < count ? static_cast<double>(x[i * step + (v + l) * stride]) : 0.0;
    run_lanes(rotation, inverse, lanes, other);
    for (uint64_t i = 0; i < n; ++i)
      for (uint64_t l = 0; l < count; ++l) x[i * step + (v + l) * stride] = static_cast<float>(lanes[i * kLanes + l]);
  }
}

// Q of a Householder triangulation of a matrix of uniform numbers in [-1, 1): only sums, products, quotients and square
// roots of doubles, so the bits are the same with every library.
std::vector<float> random_orthogonal(uint64_t m, uint64_t seed) {
  Rng rng(seed * 256 + m);
  std::vector<double> a(m * m), q(m * m, 0.0), v(m);
  for (double& x : a) x = 2 * rng.uniform() - 1;
  for (uint64_t i = 0; i < m; ++i) q[i * m + i] = 1;
  for (uint64_t j = 0; j < m; ++j) {
    double square = 0;
    for (uint64_t i = j; i < m; ++i) square += a[i * m + j] * a[i * m + j];
    if (square == 0) continue;
    const double pivot = a[j * m + j], length = pivot < 0 ? -std::sqrt(square) : std::sqrt(square);
    double norm = 0;
    for (uint64_t i = j; i < m; ++i) {
      v[i] = a[i * m + j] + (i == j ? length : 0.0);
      norm += v[i] * v[i];
    }
    // A <- (I - 2 v v^T / v^T v) A, Q <- Q (I - 2 v v^T / v^T v)
    for (uint64_t c = j; c < m; ++c) {
      double dot = 0;
      for (uint64_t i = j; i < m; ++i) dot += v[i] * a[i * m + c];
      for (uint64_t i = j; i < m; ++i) a[i * m + c] -= 2 * dot / norm * v[i];
    }
    for (uint64_t r = 0; r < m; ++r) {
      double dot = 0;
      for (uint64_t i = j; i < m; ++i) dot += q[r * m + i] * v[i];
      for (uint64_t i = j; i < m; ++i) q[r * m + i] -= 2 * dot / norm * v[i];
    }
  }
  return {q.begin(), q.end()};
}

}  // namespace

Rotation::Rotation(uint64_t size, uint64_t seed, std::vector<float> factor)
    : size_(size), seed_(seed), runs_(odd_factor(size)), factor_(std::move(factor)), signs_(size) {
  WHIT_CHECK(size > 0 && size <= kLargestRotation && runs_ <= kLargestFactor);
  WHIT_CHECK(factor_.size() == (runs_ == 1 ? 0 : runs_ * runs_));
  Rng rng(seed ^ (size << 32));
  uint64_t bits = 0;
  for (uint64_t i = 0; i < size; ++i) {
    if (i % 64 == 0) bits = rng.next();
    signs_[i] = (bits >> (i % 64)) & 1 ? -1.0f : 1.0f;
  }
}

void Rotation::apply(float* x, uint64_t vectors, uint64_t step, uint64_t stride) const {
  run_all(*this, false, x, vectors, step, stride);
}

void Rotation::invert(float* x, uint64_t vectors, uint64_t step, uint64_t stride) const {
  run_all(*this, true, x, vectors, step, stride);
}

uint64_t odd_factor(uint64_t size) noexcept {
  while (size > 0 && size % 2 == 0) size /= 2;
  return size;
}

RotationPtr make_rotation(uint64_t size, uint64_t seed, uint64_t factor_seed, const std::string& where) {
  const uint64_t m = odd_factor(size);
  if (size == 0 || size > kLargestRotation || m > kLargestFactor)
    throw Error(ErrorKind::usage, "this width cannot be rotated", where, std::to_string(size),
                "m 2^k up to " + std::to_string(kLargestRotation) + " with an odd m up to " +
                    std::to_string(kLargestFactor) + " can");
  return std::make_shared<const Rotation>(size, seed,
                                          m == 1 ? std::vector<float>() : random_orthogonal(m, factor_seed));
}

bool UnitRotation::operator==(const UnitRotation& other) const noexcept {
  const bool same_inputs = inputs && other.inputs ? *inputs == *other.inputs : !inputs && !other.inputs;
  return same_inputs && outputs == other.outputs;
}

UnitRotation UnitRotation::rows(uint64_t begin, uint64_t count) const {
  UnitRotation part{inputs, {}};
  for (const OutputRotation& output : outputs) {
    if (output.end() <= begin || output.begin >= begin + count) continue;
    WHIT_CHECK(output.begin >= begin && output.end() <= begin + count);
    part.outputs.push_back({output.begin - begin, output.rotation});
  }
  return part;
}

void UnitRotation::rotate_inputs(float* rows, uint64_t count, uint64_t cols) const {
  if (inputs) inputs->apply(rows, count * (cols / inputs->size()), 1, inputs->size());
}
void UnitRotation::restore_inputs(float* rows, uint64_t count, uint64_t cols) const {
  if (inputs) inputs->invert(rows, count * (cols / inputs->size()), 1, inputs->size());
}
void UnitRotation::rotate_outputs(float* weights, uint64_t cols, uint64_t begin, uint64_t end) const {
  for (const OutputRotation& output : outputs)
    output.rotation->apply(weights + output.begin * cols + begin, end - begin, cols, 1);
}
void UnitRotation::restore_outputs(float* weights, uint64_t cols, uint64_t begin, uint64_t end) const {
  for (const OutputRotation& output : outputs)
    output.rotation->invert(weights + output.begin * cols + begin, end - begin, cols, 1);
}

}  // namespace whit
