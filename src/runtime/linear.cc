#include "runtime/linear.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "format/bit_stream.h"
#include "format/format.h"
#include "format/grid.h"
#include "format/nm_sign.h"

namespace whit {
namespace {

// Up to this many rows of activations, a matrix is walked row by row for each; above, panels are unpacked once for all.
// A panel costs about as much to build as three products with its rows.
constexpr size_t kFewTokens = 3;

const uint8_t* bytes(std::span<const std::byte> part) { return reinterpret_cast<const uint8_t*>(part.data()); }

// Block types of ggml as affine storages.
struct BlockRow {
  std::string_view name;
  cpu::Storage storage;
  size_t weights, bytes, group;  // of a block; weights that share scale and minimum
  int32_t offset;
  bool minimum;
  uint32_t bits;
};
constexpr BlockRow kBlockRows[] = {
    {"q8_0", cpu::Storage::q8_0, 32, 34, 32, 128, false, 8},
    {"q4_0", cpu::Storage::q4_0, 32, 18, 32, 8, false, 4},
    {"q4_1", cpu::Storage::q4_1, 32, 20, 32, 0, true, 4},
    {"q5_0", cpu::Storage::q5_0, 32, 22, 32, 16, false, 5},
    {"q5_1", cpu::Storage::q5_1, 32, 24, 32, 0, true, 5},
    {"q2_k", cpu::Storage::q2_k, 256, 84, 16, 0, true, 2},
    {"q3_k", cpu::Storage::q3_k, 256, 110, 16, 4, false, 3},
    {"q4_k", cpu::Storage::q4_k, 256, 144, 32, 0, true, 4},
    {"q5_k", cpu::Storage::q5_k, 256, 176, 32, 0, true, 5},
    {"q6_k", cpu::Storage::q6_k, 256, 210, 16, 32, false, 6},
    {"iq4_nl", cpu::Storage::iq4_nl, 32, 18, 32, 128, false, 8},
    {"iq4_xs", cpu::Storage::iq4_xs, 256, 136, 32, 128, false, 8},
    {"mxfp4", cpu::Storage::mxfp4, 32, 17, 32, 16, false, 5},
    {"tq2_0", cpu::Storage::tq2_0, 256, 66, 256, 1, false, 2},
};

const BlockRow* block_row(std::string_view name) {
  const auto* found = std::find_if(std::begin(kBlockRows), std::end(kBlockRows),
                                   [&](const BlockRow& row) { return row.name == name; });
  return found == std::end(kBlockRows) ? nullptr : found;
}

void block_parts(const BlockRow& row, cpu::StoredMatrix& m) {
  m.storage = row.storage;
  m.row_bytes = m.cols / row.weights * row.bytes;
  m.group = row.group;
  m.groups = m.cols / row.group;
  m.offset = row.offset;
  m.has_minimum = row.minimum;
  m.bits = row.bits;
  m.block_weights = row.weights;
  m.block_bytes = row.bytes;
}

void grid_parts(const GridFormat& format, const StoredTensor& tensor, cpu::StoredMatrix& m,
                std::vector<float>& columns) {
  const GridOptions& options = format.grid_options();
  const GridLayout at = format.layout(m.cols);
  const auto part = [&](int index) {
    return index < 0 ? std::span<const std::byte>() : tensor.parts[static_cast<size_t>(index)];
  };
  const auto set = [&](int index, const uint8_t*& begin, const uint8_t*& end) {
    begin = bytes(part(index));
    end = begin + part(index).size();
  };
  m.storage = cpu::Storage::grid;
  m.row_bytes = at.code_bytes;
  m.group = at.groups_per_row == 1 ? cpu::padded(m.cols) : at.group;
  m.groups = at.groups_per_row;
  m.has_minimum = true;
  m.bits = static_cast<uint32_t>(options.bits);
  m.parameter_bits = static_cast<uint32_t>(options.parameter_bits);
  m.zero = options.zero == "integer"     ? cpu::Zero::integer
           : options.zero == "symmetric" ? cpu::Zero::symmetric
                                         : cpu::Zero::minimum;
  set(at.codes, m.codes, m.codes_end);
  set(at.scales, m.scales, m.scales_end);
  set(at.minima, m.minima, m.minima_end);
  set(at.zeros, m.zeros, m.zeros_end);
  m.parameter_row_bytes = at.parameter_bytes;
  m.zeros_row_bytes = at.zero_bytes;
  m.row_scales = bytes(part(at.row_scales));
  m.row_scales_bytes = static_cast<size_t>(at.row_scale_count) * 2;
  for (size_t j = 0; at.columns >= 0 && j < m.cols; ++j)
    columns.push_back(half_to_float(read_half(part(at.columns).data(), j)));
}

void nm_sign_parts(const NmSignFormat& format, const StoredTensor& tensor, cpu::StoredMatrix& m,
                   std::vector<float>& columns) {
  const NmPattern pattern = format.kept_pattern();
  m.storage = cpu::Storage::nm_sign;
  m.row_bytes = pattern.row_bytes(m.cols);
  m.group = cpu::padded(m.cols);
  m.groups = 1;
  m.offset = 1;
  m.kept = pattern.n;
  m.of = pattern.m;
  m.masks = format.masks().empty() ? nullptr : format.masks().data();
  m.places = format.places().empty() ? nullptr : format.places().data();
  m.signs = bytes(tensor.parts[1]);
  m.signs_end = m.signs + tensor.parts[1].size();
  m.signs_row_bytes = format.sign_bytes(m.cols);
  m.scales = bytes(tensor.parts[2]);
  for (size_t j = 0; format.has_columns() && j < m.cols; ++j)
    columns.push_back(half_to_float(read_half(tensor.parts[3].data(), j)));
}

// +-scale / 2 by one bit each, a half scale for every row, `scale_stride` bytes apart: a symmetric grid of one bit.
cpu::StoredMatrix sign_matrix(std::span<const std::byte> signs, Shape shape, const uint8_t* scales,
                              size_t scale_stride) {
  cpu::StoredMatrix m;
  m.storage = cpu::Storage::grid;
  m.rows = shape.rows;
  m.cols = shape.cols;
  m.codes = bytes(signs);
  m.codes_end = m.codes + signs.size();
  m.row_bytes = (shape.cols + 7) / 8;
  m.group = cpu::padded(shape.cols);
  m.groups = 1;
  m.has_minimum = true;
  m.bits = 1;
  m.parameter_bits = 16;
  m.zero = cpu::Zero::symmetric;
  m.scales = scales;
  m.parameter_row_bytes = scale_stride;
  return m;
}

// Twice the halves: the factor that sign_matrix() leaves to its columns.
std::vector<float> doubled_halves(std::span<const std::byte> part) {
  std::vector<float> values(part.size() / 2);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 2 * half_to_float(read_half(part.data(), i));
  return values;
}

// Rows as the format itself unpacks them: correct for any format and as slow as its plain decoder.
void decoded_rows(const StoredTensor& tensor, cpu::StoredMatrix& m) {
  m.storage = cpu::Storage::decoded;
  m.tensor = &tensor;
  m.decode = [](const void* of, size_t stored, float* out) noexcept {
    const auto& rows = *static_cast<const StoredTensor*>(of);
    rows.format->unpack(rows.shape, rows.parts, stored, 1, out);
  };
}

}  // namespace

cpu::StoredMatrix stored_matrix(const TensorView& view, std::vector<float>& columns) {
  using cpu::Storage;
  const StoredTensor& tensor = *view.tensor;
  const std::string name = tensor.format->name();
  cpu::StoredMatrix m;
  m.rows = view.rows;
  m.cols = tensor.shape.cols;
  m.first_row = view.begin;
  m.half_split_head = tensor.half_split_head;
  m.codes = bytes(tensor.parts[0]);
  m.codes_end = m.codes + tensor.parts[0].size();
  columns.clear();
  const auto dense = [&](Storage storage, size_t size) {
    m.storage = storage;
    m.row_bytes = m.cols * size;
  };
  if (name == "f32")
    dense(Storage::f32, 4);
  else if (name == "f16")
    dense(Storage::f16, 2);
  else if (name == "bf16")
    dense(Storage::bf16, 2);
  else if (const BlockRow* row = block_row(name))
    block_parts(*row, m);
  else if (tensor.format->pattern())
    decoded_rows(tensor, m);
  else if (const auto* grid = dynamic_cast<const GridFormat*>(tensor.format.get()))
    grid_parts(*grid, tensor, m, columns);
  else if (name == "binary_groups" || tensor.format->is_ggml() || !tensor.format->storable())
    decoded_rows(tensor, m);
  else if (const auto* signs = dynamic_cast<const NmSignFormat*>(tensor.format.get()))
    nm_sign_parts(*signs, tensor, m, columns);
  else
    throw Error(ErrorKind::input, "the runtime has no kernel for this storage format", "tensor " + tensor.name, name,
                "run it with --executor torch where that is offered, or convert the tensor");
  return m;
}

Linear::Linear(std::span<const TensorView> views, ActivationType activations) {
  for (const TensorView& view : views) {
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
  cpu::StoredMatrix left = sign_matrix(tensor.parts[0], {view.rows, rank}, bytes(tensor.parts[2]), 2);
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
