// q8_0, q5_0, q5_1, q4_0, q4_1: blocks of 32 weights along a row, with the bytes that ggml defines. As affine formats,
// their codes are unsigned: q8_0 stores code - 128, the others store the code.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "format/block_fit.h"
#include "format/formats_table.h"

namespace whit {
namespace {

constexpr uint64_t kGroup = 32;
constexpr float kLargestHalf = 65504.0f;

float round_to_half(float value) noexcept {
  return half_to_float(float_to_half(std::clamp(value, -kLargestHalf, kLargestHalf)));
}

#pragma pack(push, 1)
struct BlockQ8 {  // 8.5 bits per weight
  uint16_t scale;
  int8_t codes[kGroup];
};
struct BlockQ4 {  // 4.5 bits per weight
  uint16_t scale;
  uint8_t codes[kGroup / 2];  // weight j in the low nibble of byte j, weight j + 16 in the high one
};
struct BlockQ4Minimum {  // 5 bits per weight
  uint16_t scale;
  uint16_t minimum;
  uint8_t codes[kGroup / 2];
};
struct BlockQ5 {  // 5.5 bits per weight
  uint16_t scale;
  uint32_t high;  // bit j: bit 4 of code j
  uint8_t codes[kGroup / 2];
};
struct BlockQ5Minimum {  // 6 bits per weight
  uint16_t scale;
  uint16_t minimum;
  uint32_t high;
  uint8_t codes[kGroup / 2];
};
#pragma pack(pop)
static_assert(sizeof(BlockQ8) == 34 && sizeof(BlockQ4) == 18 && sizeof(BlockQ4Minimum) == 20);
static_assert(sizeof(BlockQ5) == 22 && sizeof(BlockQ5Minimum) == 24);

template <class Block>
void store_nibbles(Block& block, const uint8_t* codes) noexcept {
  for (uint64_t j = 0; j < kGroup / 2; ++j)
    block.codes[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[j + kGroup / 2] << 4));
}
template <class Block>
void load_nibbles(const Block& block, uint8_t* codes) noexcept {
  for (uint64_t j = 0; j < kGroup / 2; ++j) {
    codes[j] = block.codes[j] & 15;
    codes[j + kGroup / 2] = block.codes[j] >> 4;
  }
}

template <class Block>
void store_fifth_bits(Block& block, const uint8_t* codes) noexcept {
  block.high = 0;
  for (uint64_t j = 0; j < kGroup; ++j) block.high |= static_cast<uint32_t>(codes[j] >> 4) << j;
}
template <class Block>
void load_fifth_bits(const Block& block, uint8_t* codes) noexcept {
  for (uint64_t j = 0; j < kGroup; ++j) codes[j] = static_cast<uint8_t>(codes[j] | ((block.high >> j & 1) << 4));
}

struct Q8Zero {
  static constexpr const char* name = "q8_0";
  static constexpr GgmlType type = GgmlType::q8_0;
  static constexpr uint32_t levels = 256;
  static constexpr bool symmetric = true;
  static constexpr float centre = 128;
  using Block = BlockQ8;
  static void store(Block& block, const uint8_t* codes) noexcept {
    for (uint64_t j = 0; j < kGroup; ++j) block.codes[j] = static_cast<int8_t>(int{codes[j]} - 128);
  }
  static void load(const Block& block, uint8_t* codes) noexcept {
    for (uint64_t j = 0; j < kGroup; ++j) codes[j] = static_cast<uint8_t>(int{block.codes[j]} + 128);
  }
};

// Codes of four bits, or of five.
template <class BlockType, uint32_t kLevels, bool kSymmetric>
struct PackedKind {
  static constexpr uint32_t levels = kLevels;
  static constexpr bool symmetric = kSymmetric;
  static constexpr float centre = kSymmetric ? kLevels / 2 : 0;
  using Block = BlockType;
  static void store(Block& block, const uint8_t* codes) noexcept {
    store_nibbles(block, codes);
    if constexpr (kLevels == 32) store_fifth_bits(block, codes);
  }
  static void load(const Block& block, uint8_t* codes) noexcept {
    load_nibbles(block, codes);
    if constexpr (kLevels == 32) load_fifth_bits(block, codes);
  }
};
struct Q4Zero : PackedKind<BlockQ4, 16, true> {
  static constexpr const char* name = "q4_0";
  static constexpr GgmlType type = GgmlType::q4_0;
};
struct Q4One : PackedKind<BlockQ4Minimum, 16, false> {
  static constexpr const char* name = "q4_1";
  static constexpr GgmlType type = GgmlType::q4_1;
};
struct Q5Zero : PackedKind<BlockQ5, 32, true> {
  static constexpr const char* name = "q5_0";
  static constexpr GgmlType type = GgmlType::q5_0;
};
struct Q5One : PackedKind<BlockQ5Minimum, 32, false> {
  static constexpr const char* name = "q5_1";
  static constexpr GgmlType type = GgmlType::q5_1;
};

template <class Kind>
class GgmlBlocks final : public AffineFormat,
                         public BlockRounding,
                         public std::enable_shared_from_this<GgmlBlocks<Kind>> {
  using Block = typename Kind::Block;

 public:
  std::string name() const override { return Kind::name; }
  std::string label() const override { return Kind::name; }
  Json options() const override { return Json::object(); }
  bool is_ggml() const override { return true; }
  void check_shape(Shape shape, std::string_view tensor) const override {
    check_whole_blocks(shape, tensor, Kind::name, kGroup);
  }
  std::vector<PartSpec> parts(Shape shape) const override {
    const uint64_t row_bytes = shape.cols / kGroup * sizeof(Block);
    return {{"", Kind::type, shape.count(), shape.rows * row_bytes, row_bytes}};
  }

  void unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
              float* out) const noexcept override {
    const uint64_t blocks = shape.cols / kGroup;
    const std::byte* from = parts[0].data() + begin * blocks * sizeof(Block);
    for (uint64_t b = 0; b < count * blocks; ++b, from += sizeof(Block), out += kGroup) {
      Block block;
      std::memcpy(&block, from, sizeof(Block));
      uint8_t codes[kGroup];
      Kind::load(block, codes);
      const float scale = half_to_float(block.scale);
      if constexpr (Kind::symmetric) {  // the same number as with the minimum, but for the sign of a zero
        for (uint64_t j = 0; j < kGroup; ++j) out[j] = scale * (static_cast<float>(codes[j]) - Kind::centre);
      } else {
        const float minimum = half_to_float(block.minimum);
        for (uint64_t j = 0; j < kGroup; ++j) out[j] = scale * static_cast<float>(codes[j]) + minimum;
      }
    }
  }

  uint64_t block_weights() const override { return kGroup; }
  uint64_t block_bytes() const override { return sizeof(Block); }
  void round_block(const float* weights, std::byte* out) const override {
    uint8_t codes[kGroup];
    Block block;
    if constexpr (Kind::symmetric) {
      const auto fit =
          block_fit::fit_symmetric(weights, kGroup, Kind::levels, static_cast<int>(Kind::centre), true, codes);
      block.scale = float_to_half(fit.scale);
    } else {
      const auto fit = block_fit::fit_ranged(weights, kGroup, Kind::levels, true, codes);
      block.scale = float_to_half(fit.scale);
      block.minimum = float_to_half(fit.minimum);
    }
    Kind::store(block, codes);
    std::memcpy(out, &block, sizeof(Block));
  }

  uint32_t levels() const override { return Kind::levels; }
  uint64_t group(uint64_t) const override { return kGroup; }
  bool symmetric() const override { return Kind::symmetric; }
  double centre() const override { return Kind::centre; }
  bool has_columns() const override { return false; }

  void round_parameters(Shape shape, AffineParameters& parameters) const override {
    WHIT_CHECK(parameters.groups_per_row == shape.cols / kGroup && parameters.column.empty());
    for (size_t i = 0; i < parameters.scale.size(); ++i) {
      parameters.scale[i] = round_to_half(parameters.scale[i]);
      parameters.minimum[i] =
          Kind::symmetric ? -Kind::centre * parameters.scale[i] : round_to_half(parameters.minimum[i]);
    }
  }

  Packed pack(const AffineCodes& codes) const override {
    check_shape(codes.shape, "pack");
    WHIT_CHECK(codes.codes.size() == codes.shape.count());
    const uint64_t blocks = codes.shape.count() / kGroup;
    WHIT_CHECK(codes.parameters.scale.size() == blocks && codes.parameters.minimum.size() == blocks);
    Packed packed{this->shared_from_this(), codes.shape, {std::vector<std::byte>(blocks * sizeof(Block))}};
    for (uint64_t b = 0; b < blocks; ++b) {
      const uint8_t* from = codes.codes.data() + b * kGroup;
      if constexpr (Kind::levels < 256)
        for (uint64_t j = 0; j < kGroup; ++j) WHIT_CHECK(from[j] < Kind::levels);
      Block block;
      block.scale = float_to_half(codes.parameters.scale[b]);
      if constexpr (!Kind::symmetric) block.minimum = float_to_half(codes.parameters.minimum[b]);
      WHIT_CHECK(half_to_float(block.scale) == codes.parameters.scale[b]);
      WHIT_CHECK(minimum_of(block, codes.parameters.scale[b]) == codes.parameters.minimum[b]);
      Kind::store(block, from);
      std::memcpy(packed.parts[0].data() + b * sizeof(Block), &block, sizeof(Block));
    }
    return packed;
  }

  AffineCodes unpack_codes(const Packed& packed) const override {
    const uint64_t blocks = packed.shape.count() / kGroup;
    WHIT_CHECK(packed.parts.size() == 1 && packed.parts[0].size() == blocks * sizeof(Block));
    AffineCodes codes{packed.shape, std::vector<uint8_t>(packed.shape.count()), {}};
    codes.parameters.groups_per_row = packed.shape.cols / kGroup;
    codes.parameters.scale.resize(blocks);
    codes.parameters.minimum.resize(blocks);
    for (uint64_t b = 0; b < blocks; ++b) {
      Block block;
      std::memcpy(&block, packed.parts[0].data() + b * sizeof(Block), sizeof(Block));
      Kind::load(block, codes.codes.data() + b * kGroup);
      codes.parameters.scale[b] = half_to_float(block.scale);
      codes.parameters.minimum[b] = minimum_of(block, codes.parameters.scale[b]);
    }
    return codes;
  }

 private:
  // Exact for the symmetric types: centre * scale needs no more than 12 bits, and scale * code + minimum is (code -
  // centre) * scale.
  static float minimum_of(const Block& block, float scale) noexcept {
    if constexpr (Kind::symmetric)
      return -Kind::centre * scale;
    else
      return half_to_float(block.minimum);
  }
};

template <class Kind>
FormatPtr make_blocks(const Json& options, const std::string& where) {
  format_factories::NoOptions none;
  read_options(none, options, where);
  return std::make_shared<GgmlBlocks<Kind>>();
}

}  // namespace

void check_whole_blocks(Shape shape, std::string_view tensor, const char* format, uint64_t block) {
  if (shape.cols % block != 0)
    throw Error(ErrorKind::input, fmt::format("rows of this length cannot be stored as {}", format),
                std::string(tensor), fmt::format("{} inputs, blocks of {}", shape.cols, block),
                "the format grid takes rows of any length");
}

namespace format_factories {
FormatPtr make_q8_0(const Json& options, const std::string& where) { return make_blocks<Q8Zero>(options, where); }
FormatPtr make_q4_0(const Json& options, const std::string& where) { return make_blocks<Q4Zero>(options, where); }
FormatPtr make_q4_1(const Json& options, const std::string& where) { return make_blocks<Q4One>(options, where); }
FormatPtr make_q5_0(const Json& options, const std::string& where) { return make_blocks<Q5Zero>(options, where); }
FormatPtr make_q5_1(const Json& options, const std::string& where) { return make_blocks<Q5One>(options, where); }
}  // namespace format_factories

}  // namespace whit
