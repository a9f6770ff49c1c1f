#include "runtime/stored_matrix.h"

#include <algorithm>

#include "base/error.h"
#include "format/bit_stream.h"
#include "format/format.h"
#include "format/ggml_types.h"
#include "format/grid.h"
#include "format/nm_sign.h"

namespace whit {
namespace {

// Block types of ggml as affine storages.
struct BlockRow {
  std::string_view name;
  cpu::Storage storage;
  size_t group;  // weights that share scale and minimum
  int32_t offset;
  bool minimum;
  uint32_t bits;
};
constexpr BlockRow kBlockRows[] = {
    {"q8_0", cpu::Storage::q8_0, 32, 128, false, 8},     {"q4_0", cpu::Storage::q4_0, 32, 8, false, 4},
    {"q4_1", cpu::Storage::q4_1, 32, 0, true, 4},        {"q5_0", cpu::Storage::q5_0, 32, 16, false, 5},
    {"q5_1", cpu::Storage::q5_1, 32, 0, true, 5},        {"q2_k", cpu::Storage::q2_k, 16, 0, true, 2},
    {"q3_k", cpu::Storage::q3_k, 16, 4, false, 3},       {"q4_k", cpu::Storage::q4_k, 32, 0, true, 4},
    {"q5_k", cpu::Storage::q5_k, 32, 0, true, 5},        {"q6_k", cpu::Storage::q6_k, 16, 32, false, 6},
    {"iq4_nl", cpu::Storage::iq4_nl, 32, 128, false, 8}, {"iq4_xs", cpu::Storage::iq4_xs, 32, 128, false, 8},
    {"mxfp4", cpu::Storage::mxfp4, 32, 16, false, 5},    {"tq2_0", cpu::Storage::tq2_0, 256, 1, false, 2},
};

const BlockRow* block_row(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(kBlockRows), std::end(kBlockRows), [&](const BlockRow& row) { return row.name == name; });
  return found == std::end(kBlockRows) ? nullptr : found;
}

void block_parts(const BlockRow& row, const StoredTensor& tensor, cpu::StoredMatrix& m) {
  const GgmlTypeRow& type = *ggml_type_row(static_cast<int32_t>(tensor.format->parts(tensor.shape).front().type));
  m.storage = row.storage;
  m.block_weights = type.block_weights;
  m.block_bytes = type.block_bytes;
  m.row_bytes = m.cols / m.block_weights * m.block_bytes;
  m.group = row.group;
  m.groups = m.cols / row.group;
  m.offset = row.offset;
  m.has_minimum = row.minimum;
  m.bits = row.bits;
}

void grid_parts(const GridFormat& format, const StoredTensor& tensor, cpu::StoredMatrix& m,
                std::vector<float>& columns) {
  const GridOptions& options = format.grid_options();
  const GridLayout at = format.layout(m.cols);
  const auto part = [&](int index) {
    return index < 0 ? std::span<const std::byte>() : tensor.parts[static_cast<size_t>(index)];
  };
  const auto set = [&](int index, const uint8_t*& begin, const uint8_t*& end) {
    begin = bytes_of(part(index));
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
  m.row_scales = bytes_of(part(at.row_scales));
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
  m.signs = bytes_of(tensor.parts[1]);
  m.signs_end = m.signs + tensor.parts[1].size();
  m.signs_row_bytes = format.sign_bytes(m.cols);
  m.scales = bytes_of(tensor.parts[2]);
  for (size_t j = 0; format.has_columns() && j < m.cols; ++j)
    columns.push_back(half_to_float(read_half(tensor.parts[3].data(), j)));
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

cpu::StoredMatrix sign_matrix(std::span<const std::byte> signs, Shape shape, const uint8_t* scales,
                              size_t scale_stride) {
  cpu::StoredMatrix m;
  m.storage = cpu::Storage::grid;
  m.rows = shape.rows;
  m.cols = shape.cols;
  m.codes = bytes_of(signs);
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

std::vector<float> doubled_halves(std::span<const std::byte> part) {
  std::vector<float> values(part.size() / 2);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 2 * half_to_float(read_half(part.data(), i));
  return values;
}

bool has_kernels(const Format& format) {
  const std::string name = format.name();
  return name == "f32" || name == "f16" || name == "bf16" || name == "grid" || name == "nm_sign" ||
         name == "lowrank_sign" || block_row(name) != nullptr;
}

cpu::StoredMatrix stored_matrix(const TensorView& view, std::vector<float>& columns) {
  using cpu::Storage;
  const StoredTensor& tensor = *view.tensor;
  const std::string name = tensor.format->name();
  cpu::StoredMatrix m;
  m.rows = view.rows;
  m.cols = tensor.shape.cols;
  m.first_row = view.begin;
  m.half_split_head = tensor.half_split_head;
  m.codes = bytes_of(tensor.parts[0]);
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
    block_parts(*row, tensor, m);
  else if (!has_kernels(*tensor.format))
    decoded_rows(tensor, m);
  else if (const auto* grid = dynamic_cast<const GridFormat*>(tensor.format.get()))
    grid_parts(*grid, tensor, m, columns);
  else if (const auto* signs = dynamic_cast<const NmSignFormat*>(tensor.format.get()))
    nm_sign_parts(*signs, tensor, m, columns);
  else
    throw Error(ErrorKind::input, "the runtime has no kernel for this storage format", "tensor " + tensor.name, name,
                "run it with --executor torch where that is offered, or convert the tensor");
  return m;
}

}  // namespace whit
