// Rotations of a unit's inputs and outputs (docs/design/rotation.md). R turns n = m 2^k elements, m odd:
//   R = (Q_m (x) H_{2^k}) diag(s) / sqrt(2^k)
// x is taken as m runs of 2^k; signs s, then a Walsh-Hadamard transform of every run, then the orthogonal Q mixes the
// runs. Both factors work on contiguous runs, O(n (k + m)) operations. Q and the seed of s are what a file stores: a
// reader never computes Q anew.
// A unit stored with R on its inputs and L on its outputs holds L W R^T; it computes y = L^T ((L W R^T) (R x)).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace whit {

// The largest odd factor m of a width: Q costs m operations an element and m^2 floats of the file.
inline constexpr uint64_t kLargestFactor = 255;
inline constexpr uint64_t kLargestRotation = uint64_t{1} << 20;

class Rotation {
 public:
  // factor: Q [m, m] row-major, orthogonal; empty where m is 1. size and factor fit each other (checked by whoever made
  // them).
  Rotation(uint64_t size, uint64_t seed, std::vector<float> factor);

  uint64_t size() const noexcept { return size_; }
  uint64_t seed() const noexcept { return seed_; }
  uint64_t runs() const noexcept { return runs_; }  // m
  uint64_t run() const noexcept { return size_ / runs_; }
  const std::vector<float>& factor() const noexcept { return factor_; }
  const std::vector<float>& signs() const noexcept { return signs_; }  // [size], +-1

  // x <- R x, the plain reference, in double. Element e of vector v stands at x[e * step + v * stride].
  void apply(float* x, uint64_t vectors, uint64_t step, uint64_t stride) const;
  // x <- R^T x
  void invert(float* x, uint64_t vectors, uint64_t step, uint64_t stride) const;

  bool operator==(const Rotation& other) const noexcept {
    return size_ == other.size_ && seed_ == other.seed_ && factor_ == other.factor_;
  }

 private:
  uint64_t size_, seed_, runs_;
  std::vector<float> factor_, signs_;
};

using RotationPtr = std::shared_ptr<const Rotation>;

// The odd m of size = m 2^k.
uint64_t odd_factor(uint64_t size) noexcept;
// A new rotation: signs from `seed`, Q from `factor_seed` and m alone, so that all widths of one m share it.
// ErrorKind::usage "cannot be rotated" naming `where` and the width.
RotationPtr make_rotation(uint64_t size, uint64_t seed, uint64_t factor_seed, const std::string& where);

// A rotation of the outputs [begin, begin + rotation->size()).
struct OutputRotation {
  uint64_t begin = 0;
  RotationPtr rotation;
  uint64_t end() const noexcept { return begin + rotation->size(); }
  bool operator==(const OutputRotation& other) const noexcept {
    return begin == other.begin && *rotation == *other.rotation;
  }
};

// What a stored unit is rotated by. L is block-diagonal: each member of a stack has a rotation of its own, so that it
// can be read without its neighbours; rows that no rotation covers are as they were.
struct UnitRotation {
  // Null: not rotated. In a model in another basis (model/spec/basis.h), never in a file, it may be smaller than the
  // inputs: every run of its size, a head's inputs, then turns by itself.
  RotationPtr inputs;
  std::vector<OutputRotation> outputs;  // ascending, without overlap

  explicit operator bool() const noexcept { return inputs != nullptr || !outputs.empty(); }
  bool operator==(const UnitRotation& other) const noexcept;
  // That of rows [begin, begin + count) as a matrix of their own. No rotation of outputs is cut.
  UnitRotation rows(uint64_t begin, uint64_t count) const;

  // The two halves of W <-> L W R^T on a matrix [rows, cols], each in pieces that may run side by side: `count` rows
  // from `rows` on, and the columns [begin, end).
  void rotate_inputs(float* rows, uint64_t count, uint64_t cols) const;
  void restore_inputs(float* rows, uint64_t count, uint64_t cols) const;
  void rotate_outputs(float* weights, uint64_t cols, uint64_t begin, uint64_t end) const;
  void restore_outputs(float* weights, uint64_t cols, uint64_t begin, uint64_t end) const;
};

}  // namespace whit
