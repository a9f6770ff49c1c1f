// Products with stored matrices: what a model's linear layer is to the executor.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/threads.h"
#include "format/tensor.h"
#include "runtime/buffer.h"
#include "runtime/cpu/kernels.h"
#include "runtime/rotator.h"
#include "runtime/runtime.h"

namespace whit {

// Floats between the rows of an activation matrix of `cols` columns: padded, and an odd number of cache lines, so that
// consecutive rows do not compete for the same cache sets.
inline size_t row_stride(size_t cols) { return cpu::padded(cols) + (cpu::padded(cols) / 16 % 2 == 0 ? 16 : 32); }

// One or more matrices that read the same input; their outputs lie one after another. A rotated matrix is multiplied in
// the basis that it is stored in: R x goes in, L^T is applied to what comes out. The
// stored tensors must outlive it.
class Linear {
 public:
  Linear() = default;
  Linear(std::span<const TensorView> views, ActivationType activations);
  size_t rows() const noexcept { return rows_; }
  size_t cols() const noexcept { return cols_; }
  // The longest input of a product on the way: cols(), or the rank of factors.
  size_t widest() const noexcept;

 private:
  friend class Multiplier;
  // A form in which the input is wanted: as floats, or rounded to 8 bits; before that rotated, and then scaled by
  // columns, where a part has these.
  struct Variant {
    Rotator rotation;
    std::vector<float> columns;
    bool int8 = false;
    bool signs = false;  // products of few tokens stay with floats: they are additions, rounding would only cost
    size_t block = 0;
    int32_t offset = 0;
    bool prepared() const noexcept { return rotation || !columns.empty(); }
    bool operator==(const Variant&) const = default;
    bool rounds(size_t tokens) const noexcept;
  };
  struct Output {
    size_t begin = 0;
    Rotator rotation;
  };
  struct Part {
    cpu::StoredMatrix matrix;
    size_t begin = 0;  // of its outputs
    size_t variant = 0;
  };
  // Rows of a matrix that is stored as two factors: left * (right * x). Rows of the same tensor share what right gives.
  struct Factors {
    std::shared_ptr<Linear> right, left;
    const StoredTensor* tensor = nullptr;
    size_t begin = 0;  // of its outputs
  };
  void add_part(const cpu::StoredMatrix& matrix, const Rotator& rotation, std::vector<float> columns,
                ActivationType activations);
  void add_factors(const TensorView& view, const Rotator& inputs, ActivationType activations);

  std::vector<Part> parts_;
  std::vector<Variant> variants_;
  std::vector<Output> outputs_;
  std::vector<Factors> factors_;
  size_t rows_ = 0, cols_ = 0;
  size_t rotation_scratch_ = 0;  // floats a worker
};

// Scratch and the pool: one per session.
class Multiplier {
 public:
  // For linears with widest() up to max_cols and up to max_tokens rows of activations a call.
  Multiplier(const cpu::Kernels& kernels, ThreadPool& pool, size_t max_cols, size_t max_tokens);
  // out[t][0..rows) = linear * x[t], t < tokens. x has stride row_stride(cols) and is zero past cols.
  void multiply(const Linear& linear, const float* x, size_t tokens, float* out, size_t out_stride);
  // Row `row` of the (only) matrix as floats; its outputs are not rotated.
  void unpack_row(const Linear& linear, size_t row, float* out);
  const cpu::Kernels& kernels() const noexcept { return kernels_; }
  ThreadPool& pool() const noexcept { return pool_; }

 private:
  struct Worker {
    Buffer<uint8_t> codes, panel_codes;
    Buffer<float> parameters, floats, panel, scales, minima, rotation;
    cpu::RowScratch scratch() const { return {codes.data(), parameters.data(), floats.data()}; }
  };
  struct Input {  // of one variant
    Buffer<float> floats, scales, sums;
    Buffer<int8_t> codes;
    Buffer<int32_t> starts, lane_starts;
    cpu::QuantizedRows quantized;
    const float* x = nullptr;
  };
  void turn_back(const Rotator& rotation, size_t scratch_size, float* row);  // a row of weights, to the model's basis
  void unpack_factors_row(const Linear::Factors& factors, size_t row, float* out);
  void prepare(const Linear& linear, const float* x, size_t tokens);
  // body(t, worker) for each token: on the calling thread where there are few.
  template <class Body>
  void each_token(size_t tokens, const Body& body);
  void restore_outputs(const Linear& linear, size_t tokens, float* out, size_t out_stride);
  void rows_for_few(const Linear& linear, size_t tokens, float* out, size_t out_stride);
  void panels_for_many(const Linear& linear, size_t tokens, float* out, size_t out_stride);

  const cpu::Kernels& kernels_;
  ThreadPool& pool_;
  size_t max_cols_, max_tokens_;
  std::vector<Worker> workers_;
  std::vector<Input> inputs_;
  Buffer<float> between_;  // what the right factors gave
};

}  // namespace whit
