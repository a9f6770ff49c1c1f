#include "runtime/linear.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "format/format.h"
#include "runtime/stored_matrix.h"

namespace whit {
namespace {

// Up to this many rows of activations, a matrix is walked row by row for each; above, panels are unpacked once for all.
// A panel costs about as much to build as three products with its rows.
constexpr size_t kFewTokens = 3;

}  // namespace

Linear::Linear(std::span<const TensorView> views, ActivationType activations) {
  for (const TensorView& view : views) {
    WHIT_CHECK(!view.tensor->inner);
    const UnitRotation rotation = view.tensor->rotation.rows(view.begin, view.rows);
    const Rotator inputs = rotation.inputs ? Rotator(rotation.inputs) : Rotator();
    for (const OutputRotation& output : rotation.outputs)
      outputs_.push_back({rows_ + output.begin, Rotator(output.rotation)});
    if (view.tensor->format->name() == "lowrank_sign") {
      add_factors(view, inputs, activations);
    } else {
      std::vector<float> columns;
      const cpu::StoredMatrix matrix = stored_matrix(view, columns);
      add_part(matrix, inputs, std::move(columns), activations);
    }
  }
  for (const Output& output : outputs_)
    rotation_scratch_ = std::max(rotation_scratch_, Rotator::scratch_size(output.rotation.size()));
}

void Linear::add_part(const cpu::StoredMatrix& matrix, const Rotator& rotation, std::vector<float> columns,
                      ActivationType activations) {
  Part part;
  part.matrix = matrix;
  part.begin = rows_;
  Variant variant;
  variant.rotation = rotation;
  if (rotation) rotation_scratch_ = std::max(rotation_scratch_, Rotator::scratch_size(rotation.size()));
  variant.columns = std::move(columns);
  if (matrix.affine() && activations == ActivationType::int8) {
    variant.int8 = true;
    variant.signs = matrix.bits == 1 || matrix.storage == cpu::Storage::nm_sign;
    variant.block = matrix.activation_block();
    variant.offset = matrix.offset;
  }
  const auto found = std::find(variants_.begin(), variants_.end(), variant);
  part.variant = static_cast<size_t>(found - variants_.begin());
  if (found == variants_.end()) variants_.push_back(std::move(variant));
  rows_ += matrix.rows;
  cols_ = matrix.cols;
  parts_.push_back(part);
}

// diag(h) U (diag(l) V^T (diag(g) x)): two matrices of one bit, the inputs of each scaled by columns.
void Linear::add_factors(const TensorView& view, const Rotator& inputs, ActivationType activations) {
  const StoredTensor& tensor = *view.tensor;
  const size_t cols = tensor.shape.cols, rank = tensor.parts[3].size() / 2;
  if (factors_.empty() || factors_.back().tensor != &tensor ||
      factors_.back().begin + factors_.back().left->rows() != rows_) {
    static constexpr uint16_t kOne = 0x3c00;
    factors_.push_back({std::make_shared<Linear>(), std::make_shared<Linear>(), &tensor, rows_});
    factors_.back().right->add_part(
        sign_matrix(tensor.parts[1], {rank, cols}, reinterpret_cast<const uint8_t*>(&kOne), 0), inputs,
        doubled_halves(tensor.parts[4]), activations);
  }
  Factors& factors = factors_.back();
  cpu::StoredMatrix left = sign_matrix(tensor.parts[0], {view.rows, rank}, bytes_of(tensor.parts[2]), 2);
  left.first_row = view.begin;
  left.half_split_head = tensor.half_split_head;
  factors.left->add_part(left, {}, doubled_halves(tensor.parts[3]), activations);
  rows_ += view.rows;
  cols_ = cols;
}

bool Linear::Variant::rounds(size_t tokens) const noexcept { return int8 && (!signs || tokens > kFewTokens); }

size_t Linear::widest() const noexcept {
  size_t most = cols_;
  for (const Factors& factors : factors_) most = std::max(most, factors.left->cols());
  return most;
}

Multiplier::Multiplier(const cpu::Kernels& kernels, ThreadPool& pool, size_t max_cols, size_t max_tokens)
    : kernels_(kernels),
      pool_(pool),
      max_cols_(cpu::padded(max_cols)),
      max_tokens_(max_tokens),
      workers_(static_cast<size_t>(pool.threads())) {
  for (Worker& worker : workers_) {
    worker.codes = Buffer<uint8_t>(cpu::kPanel * (max_cols_ + 64));
    worker.parameters = Buffer<float>(max_cols_ / 2 + 64);
    worker.floats = Buffer<float>(cpu::kPanel * (max_cols_ + 16) + 16);
    worker.panel = Buffer<float>(cpu::kPanel * max_cols_);
    worker.panel_codes = Buffer<uint8_t>(cpu::kPanel * max_cols_);
    worker.scales = Buffer<float>(cpu::kPanel * max_cols_ / 8);
    worker.minima = Buffer<float>(cpu::kPanel * max_cols_ / 8);
  }
}

void Multiplier::unpack_row(const Linear& linear, size_t row, float* out) {
  if (linear.parts_.empty()) return unpack_factors_row(linear.factors_.front(), row, out);
  const Linear::Part& part = linear.parts_.front();
  const Linear::Variant& variant = linear.variants_[part.variant];
  WHIT_CHECK(linear.outputs_.empty());
  kernels_.dequantize_row(part.matrix, row, workers_.front().scratch(), out);
  if (!variant.columns.empty()) kernels_.multiply(out, variant.columns.data(), variant.columns.size(), out);
  if (variant.rotation) turn_back(variant.rotation, linear.rotation_scratch_, out);
}

template <class Body>
void Multiplier::each_token(size_t tokens, const Body& body) {
  if (tokens <= kFewTokens) {
    for (size_t t = 0; t < tokens; ++t) body(t, 0);
  } else {
    pool_.parallel_for(tokens, 1, [&](size_t begin, size_t end, int worker) {
      for (size_t t = begin; t < end; ++t) body(t, worker);
    });
  }
}

// The row of the left factor, its columns' scales on it, weighs the rows of the right one.
void Multiplier::unpack_factors_row(const Linear::Factors& factors, size_t row, float* out) {
  const Linear &left = *factors.left, &right = *factors.right;
  between_.reserve(max_tokens_ * row_stride(max_cols_));
  float* weights = between_.data();
  unpack_row(left, row, weights);
  const Linear::Variant& variant = right.variants_.front();
  kernels_.combine_sign_rows(right.parts_.front().matrix, weights, out);
  kernels_.multiply(out, variant.columns.data(), variant.columns.size(), out);
  if (variant.rotation) turn_back(variant.rotation, right.rotation_scratch_, out);
}

void Multiplier::turn_back(const Rotator& rotation, size_t scratch_size, float* row) {
  Buffer<float>& scratch = workers_.front().rotation;
  scratch.reserve(scratch_size);
  rotation.invert(kernels_, row, scratch.data(), row);
}

void Multiplier::prepare(const Linear& linear, const float* x, size_t tokens) {
  const size_t cols = linear.cols(), k = cpu::padded(cols), stride = row_stride(cols);
  if (inputs_.size() < linear.variants_.size()) inputs_.resize(linear.variants_.size());
  bool work = false;
  for (size_t v = 0; v < linear.variants_.size(); ++v) {
    const Linear::Variant& variant = linear.variants_[v];
    Input& input = inputs_[v];
    input.x = x;
    if (variant.prepared()) {
      input.floats.reserve(max_tokens_ * row_stride(max_cols_));
      // The stride follows cols, so what is padding now may have been data of a wider input.
      std::memset(input.floats.data(), 0, tokens * stride * sizeof(float));
      input.x = input.floats.data();
      work = true;
    }
    if (!variant.rounds(tokens)) continue;
    work = true;
    input.quantized.cols = cols;
    input.quantized.block = variant.block;
    input.quantized.offset = variant.offset;
    input.codes.reserve(tokens * k);
    input.scales.reserve(tokens * k / 8);
    input.sums.reserve(tokens * k / 8);
    input.starts.reserve(tokens * k / 8);
    input.lane_starts.reserve(tokens * k / 4);
    input.quantized.codes = input.codes.data();
    input.quantized.scales = input.scales.data();
    input.quantized.sums = input.sums.data();
    input.quantized.starts = input.starts.data();
    input.quantized.lane_starts = input.lane_starts.data();
  }
  if (!work) return;
  each_token(tokens, [&](size_t t, int worker) {
    for (size_t v = 0; v < linear.variants_.size(); ++v) {
      const Linear::Variant& variant = linear.variants_[v];
      Input& input = inputs_[v];
      const float* from = x + t * stride;
      float* to = input.floats.data() + t * stride;
      if (variant.rotation) {
        variant.rotation.apply(kernels_, from, workers_[static_cast<size_t>(worker)].rotation.data(), to);
        from = to;
      }
      if (!variant.columns.empty()) kernels_.multiply(from, variant.columns.data(), cols, to);
      if (variant.rounds(tokens)) kernels_.quantize(input.x + t * stride, t, input.quantized);
    }
  });
}

void Multiplier::restore_outputs(const Linear& linear, size_t tokens, float* out, size_t out_stride) {
  each_token(tokens, [&](size_t t, int worker) {
    for (const Linear::Output& output : linear.outputs_) {
      float* y = out + t * out_stride + output.begin;
      output.rotation.invert(kernels_, y, workers_[static_cast<size_t>(worker)].rotation.data(), y);
    }
  });
}

void Multiplier::rows_for_few(const Linear& linear, size_t tokens, float* out, size_t out_stride) {
  const size_t stride = row_stride(linear.cols());
  pool_.parallel_for(linear.rows(), 8, [&](size_t begin, size_t end, int worker) {
    const cpu::RowScratch scratch = workers_[static_cast<size_t>(worker)].scratch();
    for (const Linear::Part& part : linear.parts_) {
      const size_t first = std::max(begin, part.begin), last = std::min(end, part.begin + part.matrix.rows);
      if (first >= last) continue;
      const Input& input = inputs_[part.variant];
      for (size_t t = 0; t < tokens; ++t) {
        float* to = out + t * out_stride + first;
        if (linear.variants_[part.variant].rounds(tokens))
          kernels_.matvec_i8(part.matrix, first - part.begin, last - part.begin, input.quantized, t, scratch, to);
        else
          kernels_.matvec_f32(part.matrix, first - part.begin, last - part.begin, input.x + t * stride, scratch, to);
      }
    }
  });
}

void Multiplier::panels_for_many(const Linear& linear, size_t tokens, float* out, size_t out_stride) {
  struct Task {
    const Linear::Part* part;
    size_t row, count;
  };
  std::vector<Task> tasks;
  for (const Linear::Part& part : linear.parts_)
    for (size_t row = 0; row < part.matrix.rows; row += cpu::kPanel)
      tasks.push_back({&part, row, std::min(cpu::kPanel, part.matrix.rows - row)});
  const size_t stride = row_stride(linear.cols());
  pool_.parallel_for(tasks.size(), 1, [&](size_t begin, size_t end, int which) {
    const Worker& worker = workers_[static_cast<size_t>(which)];
    const cpu::RowScratch scratch = worker.scratch();
    const cpu::CodePanel panel = {worker.panel_codes.data(), worker.scales.data(), worker.minima.data()};
    for (size_t i = begin; i < end; ++i) {
      const auto& [part, row, count] = tasks[i];
      const cpu::StoredMatrix& matrix = part->matrix;
      const Input& input = inputs_[part->variant];
      float* to = out + part->begin + row;
      if (linear.variants_[part->variant].rounds(tokens)) {
        kernels_.code_panel(matrix, row, count, input.quantized.block, scratch, panel);
        kernels_.gemm_i8(input.quantized, 0, tokens, panel, matrix, to, out_stride, count);
      } else {
        kernels_.float_panel(matrix, row, count, scratch, worker.panel.data());
        kernels_.gemm_f32(input.x, stride, tokens, worker.panel.data(), cpu::kPanel, matrix.cols, to, out_stride,
                          count);
      }
    }
  });
}

void Multiplier::multiply(const Linear& linear, const float* x, size_t tokens, float* out, size_t out_stride) {
  if (tokens == 0) return;
  WHIT_CHECK(tokens <= max_tokens_ && cpu::padded(linear.widest()) <= max_cols_);
  if (linear.rotation_scratch_ > 0)
    for (Worker& worker : workers_) worker.rotation.reserve(linear.rotation_scratch_);
  if (!linear.parts_.empty()) {
    prepare(linear, x, tokens);
    if (tokens <= kFewTokens)
      rows_for_few(linear, tokens, out, out_stride);
    else
      panels_for_many(linear, tokens, out, out_stride);
  }
  for (const Linear::Factors& factors : linear.factors_) {
    between_.reserve(max_tokens_ * row_stride(max_cols_));
    const size_t stride = row_stride(factors.left->cols());
    multiply(*factors.right, x, tokens, between_.data(), stride);
    multiply(*factors.left, between_.data(), tokens, out + factors.begin, out_stride);
  }
  if (!linear.outputs_.empty()) restore_outputs(linear, tokens, out, out_stride);
}

}  // namespace whit
