#include <algorithm>
#include <cstring>

#include "base/names.h"
#include "format/format.h"
#include "format/format_options.h"
#include "format/formats_table.h"

namespace whit {
namespace {

struct Row {
  FormatRow text;
  FormatPtr (*make)(const Json& options, const std::string& where);
  std::vector<OptionDescription> (*describe)();
};

const std::vector<Row>& table() {
  static const std::vector<Row> rows = {
#define WHIT_FORMAT(name, factory, describe, summary) \
  {{#name, summary}, format_factories::factory, format_factories::describe},
#include "format/formats.def"
#undef WHIT_FORMAT
  };
  return rows;
}

const Row& row_of(std::string_view name) {
  std::vector<std::string> known;
  for (const Row& row : table()) {
    if (row.text.name == name) return row;
    known.push_back(row.text.name);
  }
  const std::string found(name.substr(0, 100));
  throw Error(ErrorKind::usage, "there is no such storage format", "format " + found, found, suggest_name(name, known));
}

}  // namespace

std::vector<OptionDescription> format_factories::no_options() { return {}; }

uint64_t Format::bytes(Shape shape) const {
  uint64_t sum = 0;
  for (const PartSpec& part : parts(shape)) sum += part.bytes;
  return sum;
}

double Format::bits_per_weight(Shape shape) const {
  return shape.count() == 0 ? 0.0 : 8.0 * static_cast<double>(bytes(shape)) / static_cast<double>(shape.count());
}

uint64_t Packed::bytes() const noexcept {
  uint64_t sum = 0;
  for (const auto& part : parts) sum += part.size();
  return sum;
}

const std::vector<FormatRow>& format_rows() {
  static const std::vector<FormatRow> rows = [] {
    std::vector<FormatRow> texts;
    for (const Row& row : table()) texts.push_back(row.text);
    return texts;
  }();
  return rows;
}

FormatPtr make_format(std::string_view name, const Json& options) {
  return row_of(name).make(options, "format " + std::string(name));
}

std::vector<OptionDescription> format_options(std::string_view name) { return row_of(name).describe(); }

FormatPtr make_format_from(const Json& json, const std::string& where) {
  if (json.is_string()) return make_format(json.get_ref<const std::string&>());
  if (!json.is_object() || !json.contains("name") || !json["name"].is_string())
    throw Error(ErrorKind::usage, "a format is a name or a table with a name", where, json.dump(),
                R"(write "q4_0" or { name = "grid", bits = 3 })");
  Json options = json;
  options.erase("name");
  return make_format(json["name"].get_ref<const std::string&>(), options);
}

Json format_to_json(const Format& format) {
  Json json = {{"name", format.name()}};
  const Json options = format.options();
  for (const auto& [key, value] : options.items()) json[key] = value;
  return json;
}

std::shared_ptr<const AffineFormat> as_affine(const FormatPtr& format) {
  return std::dynamic_pointer_cast<const AffineFormat>(format);
}

StoredTensor make_stored(std::string name, std::shared_ptr<const Packed> packed, std::vector<Member> members) {
  StoredTensor tensor;
  tensor.name = std::move(name);
  tensor.shape = packed->shape;
  tensor.format = packed->format;
  tensor.parts.assign(packed->parts.begin(), packed->parts.end());
  tensor.members = std::move(members);
  tensor.rotation = packed->rotation;
  tensor.owner = std::move(packed);
  return tensor;
}

void unpack_stored(const StoredTensor& tensor, uint64_t begin, uint64_t count, float* out) {
  const uint64_t cols = tensor.shape.cols;
  if (tensor.inner) {
    unpack_rows({tensor.inner.get(), tensor.inner_begin, tensor.shape.rows}, begin, count, {out, count * cols});
  } else if (tensor.half_split_head == 0) {
    tensor.format->unpack(tensor.shape, tensor.parts, begin, count, out);
  } else {
    WHIT_CHECK(tensor.rotation.outputs.empty());
    for (uint64_t i = 0; i < count; ++i)
      tensor.format->unpack(tensor.shape, tensor.parts, tensor.stored_row(begin + i), 1, out + i * cols);
  }
  if (!tensor.gain) return;
  for (uint64_t i = 0; i < count; ++i)
    for (uint64_t j = 0; j < cols; ++j) out[i * cols + j] *= (*tensor.gain)[j];
}

void unpack_rows(const TensorView& view, uint64_t begin, uint64_t count, std::span<float> out) {
  const StoredTensor& tensor = *view.tensor;
  const uint64_t cols = tensor.shape.cols;
  WHIT_CHECK(begin <= view.rows && count <= view.rows - begin);
  WHIT_CHECK(out.size() == count * cols);
  const uint64_t first = view.begin + begin;
  if (!tensor.rotation) return unpack_stored(tensor, first, count, out.data());
  uint64_t low = first, high = first + count;
  for (const OutputRotation& output : tensor.rotation.outputs) {
    if (output.end() <= first || output.begin >= first + count) continue;
    low = std::min(low, output.begin);
    high = std::max(high, output.end());
  }
  const UnitRotation rotation = tensor.rotation.rows(low, high - low);
  std::vector<float> wider(high - low == count ? 0 : (high - low) * cols);
  float* rows = wider.empty() ? out.data() : wider.data();
  unpack_stored(tensor, low, high - low, rows);
  if (tensor.inner) {
    rotation.rotate_inputs(rows, high - low, cols);
    rotation.rotate_outputs(rows, cols, 0, cols);
  } else {
    rotation.restore_inputs(rows, high - low, cols);
    rotation.restore_outputs(rows, cols, 0, cols);
  }
  if (!wider.empty()) std::copy_n(rows + (first - low) * cols, count * cols, out.data());
}

Packed copy_packed(const TensorView& view) {
  const StoredTensor& tensor = *view.tensor;
  if (!tensor.format->storable())
    throw Error(ErrorKind::usage, "the original's format can be read but not written", "tensor " + tensor.name,
                tensor.format->name(), "choose a format for this tensor, q4_1 or grid");
  WHIT_CHECK(!tensor.gain && !tensor.inner);
  Packed packed{tensor.format, view.shape(), {}, tensor.rotation.rows(view.begin, view.rows)};
  const std::vector<PartSpec> whole = tensor.format->parts(tensor.shape), wanted = tensor.format->parts(packed.shape);
  for (size_t p = 0; p < wanted.size(); ++p) {
    std::vector<std::byte> bytes(wanted[p].bytes);
    const uint64_t row_bytes = wanted[p].row_bytes;
    if (row_bytes == 0) {
      WHIT_CHECK(whole[p].bytes == wanted[p].bytes);
      std::memcpy(bytes.data(), tensor.parts[p].data(), bytes.size());
    } else {
      for (uint64_t row = 0; row < view.rows; ++row)
        std::memcpy(bytes.data() + row * row_bytes,
                    tensor.parts[p].data() + tensor.stored_row(view.begin + row) * row_bytes, row_bytes);
    }
    packed.parts.push_back(std::move(bytes));
  }
  return packed;
}

}  // namespace whit
