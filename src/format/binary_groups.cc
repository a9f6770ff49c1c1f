#include "format/binary_groups.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/half.h"
#include "format/bit_stream.h"
#include "format/formats_table.h"

namespace whit {
namespace {

constexpr size_t kMostScales = 9, kMostMeans = 6;  // 3 regions in salient columns too
constexpr uint64_t kMarksOfByte = 5;               // 3^5 = 243
constexpr std::array<uint8_t, kMarksOfByte> kPower = {1, 3, 9, 27, 81};

// The five marks of every byte; those that no packer writes (243 and above) decode to legal marks too.
constexpr std::array<std::array<uint8_t, kMarksOfByte>, 256> kMarks = [] {
  std::array<std::array<uint8_t, kMarksOfByte>, 256> marks{};
  for (size_t byte = 0; byte < 256; ++byte)
    for (size_t i = 0; i < kMarksOfByte; ++i) marks[byte][i] = static_cast<uint8_t>(byte / kPower[i] % 3);
  return marks;
}();

uint16_t stored_half(float value) noexcept { return float_to_half(std::clamp(value, -65504.0f, 65504.0f)); }

bool read_bit(const std::byte* stream, uint64_t index) noexcept {
  return (std::to_integer<unsigned>(stream[index / 8]) >> (index % 8) & 1u) != 0;
}
void write_bit(std::byte* stream, uint64_t index, bool value) noexcept {
  stream[index / 8] |= static_cast<std::byte>((value ? 1u : 0u) << (index % 8));
}

}  // namespace

// Walks one stored row over its kept columns.
struct BinaryGroupsFormat::RowReader {
  const BinaryGroupsOptions& options;
  const BinaryLayout& at;
  const BinaryGroupsFormat& format;
  uint64_t cols;
  const std::byte *mask = nullptr, *signs = nullptr, *marks = nullptr, *residual = nullptr, *columns = nullptr,
                  *scales = nullptr, *means = nullptr;
  uint64_t stored = 0, passed = 0, rank = 0;

  RowReader(const BinaryGroupsFormat& f, const BinaryLayout& layout, Shape shape,
            std::span<const std::span<const std::byte>> parts, uint64_t row) noexcept
      : options(f.options_), at(layout), format(f), cols(shape.cols) {
    const auto part = [&](int index, uint64_t row_bytes) {
      return index < 0 ? nullptr : parts[static_cast<size_t>(index)].data() + row * row_bytes;
    };
    mask = part(at.mask, at.mask_bytes);
    signs = part(at.signs, at.sign_bytes);
    marks = part(at.marks, at.mark_bytes);
    residual = part(at.residual, at.residual_bytes);
    columns = part(at.columns, 0);
    scales = part(at.scales, 2 * at.blocks * at.scale_slots);
    means = part(at.means, 2 * at.blocks * at.mean_slots);
  }

  struct Entry {
    bool salient, sign, second;
    int region;
    uint64_t rank;  // of a salient column, among all of them
  };
  // visit(j, entry) for every kept column j, ascending.
  template <class Visit>
  void for_each(const Visit& visit) noexcept {
    if (options.m == 0)
      for (uint64_t j = 0; j < cols; ++j) visit(j, entry(j));
    else
      for_each_kept(*format.pattern(), mask, cols, [&](uint64_t j) { visit(j, entry(j)); });
  }
  Entry entry(uint64_t j) noexcept {
    for (; residual && passed < j; ++passed) rank += read_bit(columns, passed);
    Entry entry{columns && read_bit(columns, j), read_bit(signs, stored), false, 0, rank};
    int mark = 0;
    if (options.regions == 2) mark = read_bit(marks, stored);
    if (options.regions == 3)
      mark = kMarks[std::to_integer<size_t>(marks[stored / kMarksOfByte])][stored % kMarksOfByte];
    ++stored;
    if (residual) {
      entry.region = mark;
      // A damaged file may mark more columns than there is room for.
      entry.second = entry.salient && rank < at.residual_columns && read_bit(residual, rank);
    } else if (entry.salient) {
      entry.second = mark != 0;
    } else {
      entry.region = mark;
    }
    return entry;
  }
  float scale(uint64_t block, uint64_t slot) const noexcept {
    return half_to_float(read_half(scales, block * at.scale_slots + slot));
  }
  float mean(uint64_t block, uint64_t slot) const noexcept {
    return means ? half_to_float(read_half(means, block * at.mean_slots + slot)) : 0.0f;
  }
};

std::optional<NmPattern> BinaryGroupsFormat::pattern() const {
  if (options_.m == 0) return std::nullopt;
  return NmPattern{static_cast<unsigned>(options_.n), static_cast<unsigned>(options_.m)};
}

BinaryLayout BinaryGroupsFormat::layout(uint64_t cols) const noexcept {
  const auto regions = static_cast<uint64_t>(options_.regions), residual = static_cast<uint64_t>(options_.residual);
  BinaryLayout at;
  at.block = options_.block == 0 ? cols : std::min(static_cast<uint64_t>(options_.block), cols);
  at.blocks = div_up(cols, at.block);
  at.kept = cols;
  at.salient = options_.regions > 1 || residual > 0;
  at.residual_columns = std::min(cols, residual * at.blocks);
  at.scale_slots = regions + (residual > 0 ? 2 * regions : at.salient ? 2 : 0);
  at.mean_slots = !options_.means ? 0 : regions + (residual > 0 ? regions : at.salient ? 1 : 0);
  at.column_slots = options_.columns ? regions : 0;
  int next = 0;
  if (const auto masks = pattern()) {
    at.kept = masks->kept(cols);
    at.mask_bytes = masks->row_bytes(cols);
    if (at.mask_bytes > 0) at.mask = next++;  // a rest may have one mask only
  }
  at.sign_bytes = div_up(at.kept, 8);
  at.signs = next++;
  at.mark_bytes = regions == 1 ? 0 : regions == 2 ? div_up(at.kept, 8) : div_up(at.kept, kMarksOfByte);
  if (at.mark_bytes > 0) at.marks = next++;
  at.residual_bytes = div_up(at.residual_columns, 8);
  if (at.residual_bytes > 0) at.residual = next++;
  if (at.salient) at.columns = next++;
  at.scales = next++;
  if (at.mean_slots > 0) at.means = next++;
  if (at.column_slots > 0) at.column_scales = next++;
  if (at.column_slots > 0 && residual > 0) at.residual_scales = next++;
  return at;
}

BinarySlots BinaryGroupsFormat::slots(bool salient, int region) const noexcept {
  const int regions = options_.regions;
  if (!salient) return {region, -1, region, region, -1};
  if (options_.residual == 0) return {regions, regions + 1, regions, 0, 1};
  return {regions + 2 * region, regions + 2 * region + 1, regions + region, region, region};
}

std::string BinaryGroupsFormat::label() const {
  std::string label = fmt::format("signs{}", options_.regions);
  label += options_.block == 0 ? "-row" : fmt::format("-b{}", options_.block);
  if (options_.m > 0) label += fmt::format("-{}:{}", options_.n, options_.m);
  if (options_.residual > 0) label += fmt::format("-r{}", options_.residual);
  if (options_.means) label += "-means";
  if (options_.columns) label += "-rc";
  return label;
}

void BinaryGroupsFormat::check_shape(Shape shape, std::string_view tensor) const {
  if (shape.count() == 0)
    throw Error(ErrorKind::input, "an empty matrix cannot be stored", std::string(tensor),
                fmt::format("{} x {}", shape.rows, shape.cols));
}

std::vector<PartSpec> BinaryGroupsFormat::parts(Shape shape) const {
  const BinaryLayout at = layout(shape.cols);
  std::vector<PartSpec> parts;
  const auto bytes = [&](int part, const char* suffix, uint64_t row_bytes) {
    if (part >= 0) parts.push_back({suffix, GgmlType::i8, row_bytes * shape.rows, row_bytes * shape.rows, row_bytes});
  };
  const auto halves = [&](int part, const char* suffix, uint64_t of_row) {
    if (part >= 0) parts.push_back({suffix, GgmlType::f16, of_row * shape.rows, 2 * of_row * shape.rows, 2 * of_row});
  };
  const auto shared = [&](int part, const char* suffix, uint64_t count, uint64_t size) {
    if (part >= 0) parts.push_back({suffix, size == 1 ? GgmlType::i8 : GgmlType::f16, count, size * count, 0});
  };
  bytes(at.mask, "mask", at.mask_bytes);
  bytes(at.signs, "signs", at.sign_bytes);
  bytes(at.marks, "marks", at.mark_bytes);
  bytes(at.residual, "residual", at.residual_bytes);
  shared(at.columns, "columns", div_up(shape.cols, 8), 1);
  halves(at.scales, "scales", at.blocks * at.scale_slots);
  halves(at.means, "means", at.blocks * at.mean_slots);
  shared(at.column_scales, "column_scales", shape.cols * at.column_slots, 2);
  shared(at.residual_scales, "residual_scales", at.residual_columns * at.column_slots, 2);
  return parts;
}

void BinaryGroupsFormat::check_parts(Shape shape, std::span<const std::span<const std::byte>> parts,
                                     std::string_view tensor) const {
  const BinaryLayout at = layout(shape.cols);
  if (at.residual < 0) return;
  uint64_t salient = 0;
  for (uint64_t j = 0; j < shape.cols; ++j) salient += read_bit(parts[static_cast<size_t>(at.columns)].data(), j);
  if (salient > at.residual_columns)
    throw Error(ErrorKind::input, "more columns are marked as salient than have second signs", std::string(tensor),
                fmt::format("{}, room for {}", salient, at.residual_columns));
}

void BinaryGroupsFormat::unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin,
                                uint64_t count, float* out) const noexcept {
  const BinaryLayout at = layout(shape.cols);
  const std::byte* column = at.column_scales < 0 ? nullptr : parts[static_cast<size_t>(at.column_scales)].data();
  const bool residual = at.residual_scales >= 0;
  const std::byte* column_two = residual ? parts[static_cast<size_t>(at.residual_scales)].data() : column;
  for (uint64_t row = begin; row < begin + count; ++row, out += shape.cols) {
    std::fill(out, out + shape.cols, 0.0f);
    RowReader reader(*this, at, shape, parts, row);
    float scale[kMostScales], mean[kMostMeans] = {};
    uint64_t end = 0;  // of the block whose parameters these are
    reader.for_each([&](uint64_t j, const RowReader::Entry& entry) {
      if (j >= end) {
        const uint64_t block = j / at.block;
        end = (block + 1) * at.block;
        for (uint64_t s = 0; s < at.scale_slots; ++s) scale[s] = reader.scale(block, s);
        for (uint64_t s = 0; s < at.mean_slots; ++s) mean[s] = reader.mean(block, s);
      }
      const BinarySlots slot = slots(entry.salient, entry.region);
      const auto factor = [&](const std::byte* factors, uint64_t of, int index) {
        return half_to_float(read_half(factors, of * at.column_slots + static_cast<uint64_t>(index)));
      };
      float first = scale[slot.first];
      if (column) first *= factor(column, j, slot.column_first);
      out[j] = mean[slot.mean] + (entry.sign ? first : -first);
      if (slot.second < 0) return;
      float second = scale[slot.second];
      // A rank beyond the room for it takes the last: only a damaged file has one.
      if (column)
        second *= factor(column_two, residual ? std::min(entry.rank, at.residual_columns - 1) : j, slot.column_second);
      out[j] += entry.second ? second : -second;
    });
  }
}

double BinaryGroupsFormat::paper_bits(Shape shape, std::span<const std::span<const std::byte>> parts) const noexcept {
  const BinaryLayout at = layout(shape.cols);
  uint64_t salient = 0;
  if (at.columns >= 0)
    for (uint64_t j = 0; j < shape.cols; ++j) salient += read_bit(parts[static_cast<size_t>(at.columns)].data(), j);
  const auto cols = static_cast<double>(shape.cols);
  return static_cast<double>(at.kept) / cols * (1.0 + static_cast<double>(salient) / cols);
}

float BinaryGroupsFormat::rounded(float value) noexcept { return half_to_float(stored_half(value)); }

BinaryGroups BinaryGroupsFormat::empty(Shape shape) const {
  const BinaryLayout at = layout(shape.cols);
  BinaryGroups groups;
  groups.shape = shape;
  groups.salient.resize(shape.cols);
  groups.sign.resize(shape.count());
  groups.second.resize(shape.count());
  groups.region.resize(shape.count());
  groups.scale.resize(shape.rows * at.blocks * at.scale_slots);
  groups.mean.resize(shape.rows * at.blocks * at.mean_slots);
  groups.column.resize(shape.cols * at.column_slots);
  if (options_.residual > 0) groups.column_two.resize(shape.cols * at.column_slots);
  return groups;
}

float BinaryGroupsFormat::value(const BinaryGroups& groups, const BinaryLayout& at, uint64_t row,
                                uint64_t col) const noexcept {
  const uint64_t k = row * groups.shape.cols + col, block = row * at.blocks + col / at.block;
  if (!groups.mask.empty() && !groups.mask[k]) return 0.0f;
  const BinarySlots slot = slots(groups.salient[col], groups.region[k]);
  const auto scale = [&](int index) { return groups.scale[block * at.scale_slots + static_cast<uint64_t>(index)]; };
  const auto column = [&](const std::vector<float>& factors, int index) {
    return factors[col * at.column_slots + static_cast<uint64_t>(index)];
  };
  float first = scale(slot.first);
  if (at.column_slots > 0) first *= column(groups.column, slot.column_first);
  float value = at.mean_slots > 0 ? groups.mean[block * at.mean_slots + static_cast<uint64_t>(slot.mean)] : 0.0f;
  value += groups.sign[k] ? first : -first;
  if (slot.second < 0) return value;
  float second = scale(slot.second);
  if (at.column_slots > 0)
    second *= column(options_.residual > 0 ? groups.column_two : groups.column, slot.column_second);
  return value + (groups.second[k] ? second : -second);
}

Packed BinaryGroupsFormat::pack(const BinaryGroups& groups) const {
  const Shape shape = groups.shape;
  check_shape(shape, "pack");
  const BinaryLayout at = layout(shape.cols);
  const BinaryGroups sizes = empty(shape);
  WHIT_CHECK(groups.salient.size() == shape.cols && groups.sign.size() == shape.count());
  WHIT_CHECK(groups.second.size() == shape.count() && groups.region.size() == shape.count());
  WHIT_CHECK(groups.scale.size() == sizes.scale.size() && groups.mean.size() == sizes.mean.size());
  WHIT_CHECK(groups.column.size() == sizes.column.size() && groups.column_two.size() == sizes.column_two.size());
  WHIT_CHECK(groups.mask.size() == (options_.m > 0 ? shape.count() : 0));

  Packed packed{shared_from_this(), shape, {}};
  for (const PartSpec& part : parts(shape)) packed.parts.emplace_back(part.bytes);
  const auto part = [&](int index, uint64_t offset) {
    return index < 0 ? nullptr : packed.parts[static_cast<size_t>(index)].data() + offset;
  };
  std::vector<uint64_t> rank(shape.cols, 0);
  uint64_t salient = 0;
  for (uint64_t j = 0; j < shape.cols; ++j) {
    if (!groups.salient[j]) continue;
    WHIT_CHECK(at.salient);
    rank[j] = salient++;
    write_bit(part(at.columns, 0), j, true);
  }
  WHIT_CHECK(options_.residual == 0 || salient <= at.residual_columns);
  for (uint64_t row = 0; row < shape.rows; ++row) {
    const uint64_t first = row * shape.cols;
    std::byte* mask = part(at.mask, row * at.mask_bytes);
    std::byte* signs = part(at.signs, row * at.sign_bytes);
    std::byte* marks = part(at.marks, row * at.mark_bytes);
    std::byte* residual = part(at.residual, row * at.residual_bytes);
    if (const auto masks = pattern()) {
      const uint8_t* keep = groups.mask.data() + first;
      WHIT_CHECK(first_other_group(*masks, keep, shape.cols) == div_up(shape.cols, masks->m));
      if (mask) write_mask_row(*masks, keep, shape.cols, mask);
    }
    uint64_t stored = 0;
    for (uint64_t j = 0; j < shape.cols; ++j) {
      const uint64_t k = first + j;
      if (!groups.mask.empty() && !groups.mask[k]) continue;
      write_bit(signs, stored, groups.sign[k]);
      unsigned mark = groups.region[k];
      if (groups.salient[j] && residual) write_bit(residual, rank[j], groups.second[k]);
      if (groups.salient[j] && !residual) mark = groups.second[k] ? 1 : 0;
      WHIT_CHECK(mark < static_cast<unsigned>(options_.regions));
      if (options_.regions == 2) write_bit(marks, stored, mark != 0);
      if (options_.regions == 3) {
        const unsigned digit = mark * kPower[stored % kMarksOfByte];
        marks[stored / kMarksOfByte] =
            static_cast<std::byte>(std::to_integer<unsigned>(marks[stored / kMarksOfByte]) + digit);
      }
      ++stored;
    }
  }
  const auto halves = [&](int index, const std::vector<float>& values) {
    for (size_t i = 0; i < values.size(); ++i) write_half(part(index, 0), i, stored_half(values[i]));
  };
  halves(at.scales, groups.scale);
  halves(at.means, groups.mean);
  halves(at.column_scales, groups.column);
  if (at.residual_scales >= 0)
    for (uint64_t j = 0; j < shape.cols; ++j)
      for (uint64_t s = 0; groups.salient[j] && s < at.column_slots; ++s)
        write_half(part(at.residual_scales, 0), rank[j] * at.column_slots + s,
                   stored_half(groups.column_two[j * at.column_slots + s]));
  return packed;
}

BinaryGroups BinaryGroupsFormat::unpack_groups(const Packed& packed) const {
  const Shape shape = packed.shape;
  const std::vector<PartSpec> specs = parts(shape);
  WHIT_CHECK(packed.parts.size() == specs.size());
  for (size_t i = 0; i < specs.size(); ++i) WHIT_CHECK(packed.parts[i].size() == specs[i].bytes);
  const BinaryLayout at = layout(shape.cols);
  BinaryGroups groups = empty(shape);
  if (options_.m > 0) groups.mask.resize(shape.count());
  const auto views = packed.views();
  for (uint64_t row = 0; row < shape.rows; ++row) {
    RowReader reader(*this, at, shape, views, row);
    reader.for_each([&](uint64_t j, const RowReader::Entry& entry) {
      const uint64_t k = row * shape.cols + j;
      if (options_.m > 0) groups.mask[k] = 1;
      groups.sign[k] = entry.sign;
      groups.second[k] = entry.second;
      groups.region[k] = static_cast<uint8_t>(entry.region);
    });
  }
  uint64_t rank = 0;
  for (uint64_t j = 0; at.columns >= 0 && j < shape.cols; ++j) {
    groups.salient[j] = read_bit(views[static_cast<size_t>(at.columns)].data(), j);
    if (!groups.salient[j]) continue;
    const uint64_t of = rank++;
    for (uint64_t s = 0; at.residual_scales >= 0 && s < at.column_slots; ++s)
      groups.column_two[j * at.column_slots + s] =
          half_to_float(read_half(views[static_cast<size_t>(at.residual_scales)].data(),
                                  std::min(of, at.residual_columns - 1) * at.column_slots + s));
  }
  const auto halves = [&](int index, std::vector<float>& values) {
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = half_to_float(read_half(views[static_cast<size_t>(index)].data(), i));
  };
  halves(at.scales, groups.scale);
  halves(at.means, groups.mean);
  halves(at.column_scales, groups.column);
  return groups;
}

std::shared_ptr<const BinaryGroupsFormat> as_binary_groups(const FormatPtr& format) {
  return std::dynamic_pointer_cast<const BinaryGroupsFormat>(format);
}

std::vector<OptionDescription> format_factories::binary_groups_options() { return describe_options<BinaryGroupsOptions>(); }

FormatPtr format_factories::make_binary_groups(const Json& json, const std::string& where) {
  BinaryGroupsOptions options;
  read_options(options, json, where);
  const auto refuse = [&](const std::string& what, const std::string& found) {
    throw Error(ErrorKind::usage, what, where, found);
  };
  if (options.columns) {
    if (!json.contains("means")) options.means = false;
    if (options.means) refuse("row and column scales have no means", "means");
  }
  if (options.block % 8 != 0) refuse("block must be 0 or a multiple of 8", fmt::format("{}", options.block));
  if (options.block != 0 && options.residual > options.block)
    refuse("more salient columns than a block has",
           fmt::format("residual {}, block {}", options.residual, options.block));
  if ((options.n == 0) != (options.m == 0) || options.n > options.m)
    refuse("a mask keeps n of each m inputs", fmt::format("n {}, m {}", options.n, options.m));
  if (options.n == options.m) options.n = options.m = 0;  // all are kept: no mask
  return std::make_shared<BinaryGroupsFormat>(options);
}

}  // namespace whit
