// The types of ggml that no affine format describes: K types (blocks of 256 weights, whose sub-blocks have integer
// scales), uneven levels, ternary, 4-bit floats. Decoding is exact: every product has fewer bits than a float, and
// where a minimum is subtracted there is one rounding, as in ggml.
#include <bit>
#include <cstring>

#include "base/half.h"
#include "format/block_fit.h"
#include "format/formats_table.h"

namespace whit {
namespace {

// Where some bits of a number stand in an array of bytes.
struct Place {
  int byte, shift;
};
int load_bits(const uint8_t* bytes, Place at, int mask) noexcept { return bytes[at.byte] >> at.shift & mask; }
void store_bits(uint8_t* bytes, Place at, int value) noexcept {
  bytes[at.byte] = static_cast<uint8_t>(bytes[at.byte] | value << at.shift);
}

// Weight i of 256 among pairs of bits: a half of 128 weights in 32 bytes, weights l, l + 32, l + 64, l + 96 in byte l.
Place pair_place(int i) noexcept { return {32 * (i / 128) + i % 32, 2 * (i % 128 / 32)}; }
// Among nibbles: 64 weights in 32 bytes, l and l + 32 in byte l.
Place nibble_place(int i) noexcept { return {32 * (i / 64) + i % 32, 4 * (i % 64 / 32)}; }
// Among single bits: weights l, l + 32, ... in byte l.
Place bit_place(int i) noexcept { return {i % 32, i / 32}; }

// Scales and minima of 6 bits, eight of each in 12 bytes: four low bits and two high ones.
Place six_low(int k, bool minimum) noexcept {
  if (k < 4) return {k + (minimum ? 4 : 0), 0};
  return {k + 4, minimum ? 4 : 0};
}
Place six_high(int k, bool minimum) noexcept {
  if (k < 4) return {k + (minimum ? 4 : 0), 4};
  return {minimum ? k : k - 4, 6};
}

// ---- K types. A kind says its shape, its bytes, and where d and dmin, scales and codes stand. ----

using block_fit::SuperBlock;
using block_fit::SuperShape;

struct Q2K {
  static constexpr const char* name = "q2_k";
  static constexpr GgmlType type = GgmlType::q2_k;
  static constexpr SuperShape shape{16, 4, 0, 0, 15, true};
  static constexpr int bytes = 84, d_at = 80, dmin_at = 82;
  static void load(const uint8_t* b, SuperBlock& block) noexcept {
    for (int k = 0; k < 16; ++k) block.scales[k] = b[k] & 15, block.minima[k] = b[k] >> 4;
    for (int i = 0; i < 256; ++i) block.codes[i] = static_cast<uint8_t>(load_bits(b + 16, pair_place(i), 3));
  }
  static void store(const SuperBlock& block, uint8_t* b) noexcept {
    for (int k = 0; k < 16; ++k) b[k] = static_cast<uint8_t>(block.scales[k] | block.minima[k] << 4);
    for (int i = 0; i < 256; ++i) store_bits(b + 16, pair_place(i), block.codes[i]);
  }
};

struct Q3K {
  static constexpr const char* name = "q3_k";
  static constexpr GgmlType type = GgmlType::q3_k;
  static constexpr SuperShape shape{16, 8, 4, -32, 31, false};
  static constexpr int bytes = 110, d_at = 108, dmin_at = -1;
  static Place scale_low(int k) noexcept { return {96 + k % 8, 4 * (k / 8)}; }
  static Place scale_high(int k) noexcept { return {96 + 8 + k % 4, 2 * (k / 4)}; }
  static void load(const uint8_t* b, SuperBlock& block) noexcept {
    for (int k = 0; k < 16; ++k)
      block.scales[k] = (load_bits(b, scale_low(k), 15) | load_bits(b, scale_high(k), 3) << 4) - 32;
    for (int i = 0; i < 256; ++i)
      block.codes[i] = static_cast<uint8_t>(load_bits(b + 32, pair_place(i), 3) | load_bits(b, bit_place(i), 1) << 2);
  }
  static void store(const SuperBlock& block, uint8_t* b) noexcept {
    for (int k = 0; k < 16; ++k) {
      store_bits(b, scale_low(k), (block.scales[k] + 32) & 15);
      store_bits(b, scale_high(k), (block.scales[k] + 32) >> 4);
    }
    for (int i = 0; i < 256; ++i) {
      store_bits(b + 32, pair_place(i), block.codes[i] & 3);
      store_bits(b, bit_place(i), block.codes[i] >> 2);
    }
  }
};

template <bool kFive>
struct Q45K {
  static constexpr const char* name = kFive ? "q5_k" : "q4_k";
  static constexpr GgmlType type = kFive ? GgmlType::q5_k : GgmlType::q4_k;
  static constexpr SuperShape shape{32, kFive ? 32 : 16, 0, 0, 63, true};
  static constexpr int bytes = kFive ? 176 : 144, d_at = 0, dmin_at = 2, codes_at = kFive ? 48 : 16;
  static void load(const uint8_t* b, SuperBlock& block) noexcept {
    for (int k = 0; k < 8; ++k) {
      block.scales[k] = load_bits(b + 4, six_low(k, false), 15) | load_bits(b + 4, six_high(k, false), 3) << 4;
      block.minima[k] = load_bits(b + 4, six_low(k, true), 15) | load_bits(b + 4, six_high(k, true), 3) << 4;
    }
    for (int i = 0; i < 256; ++i) {
      const int high = kFive ? load_bits(b + 16, bit_place(i), 1) << 4 : 0;
      block.codes[i] = static_cast<uint8_t>(load_bits(b + codes_at, nibble_place(i), 15) | high);
    }
  }
  static void store(const SuperBlock& block, uint8_t* b) noexcept {
    for (int k = 0; k < 8; ++k)
      for (const bool minimum : {false, true}) {
        const int value = minimum ? block.minima[k] : block.scales[k];
        store_bits(b + 4, six_low(k, minimum), value & 15);
        store_bits(b + 4, six_high(k, minimum), value >> 4);
      }
    for (int i = 0; i < 256; ++i) {
      store_bits(b + codes_at, nibble_place(i), block.codes[i] & 15);
      if (kFive) store_bits(b + 16, bit_place(i), block.codes[i] >> 4);
    }
  }
};

struct Q6K {
  static constexpr const char* name = "q6_k";
  static constexpr GgmlType type = GgmlType::q6_k;
  static constexpr SuperShape shape{16, 64, 32, -128, 127, false};
  static constexpr int bytes = 210, d_at = 208, dmin_at = -1;
  static Place low(int i) noexcept { return {64 * (i / 128) + i % 64, 4 * (i % 128 / 64)}; }
  static Place high(int i) noexcept { return {128 + pair_place(i).byte, pair_place(i).shift}; }
  static void load(const uint8_t* b, SuperBlock& block) noexcept {
    for (int k = 0; k < 16; ++k) block.scales[k] = static_cast<int8_t>(b[192 + k]);
    for (int i = 0; i < 256; ++i)
      block.codes[i] = static_cast<uint8_t>(load_bits(b, low(i), 15) | load_bits(b, high(i), 3) << 4);
  }
  static void store(const SuperBlock& block, uint8_t* b) noexcept {
    for (int k = 0; k < 16; ++k) b[192 + k] = static_cast<uint8_t>(block.scales[k]);
    for (int i = 0; i < 256; ++i) {
      store_bits(b, low(i), block.codes[i] & 15);
      store_bits(b, high(i), block.codes[i] >> 4);
    }
  }
};

float half_at(const uint8_t* bytes) noexcept {
  uint16_t half;
  std::memcpy(&half, bytes, sizeof(half));
  return half_to_float(half);
}
void store_half(float value, uint8_t* bytes) noexcept {
  const uint16_t half = float_to_half(value);
  std::memcpy(bytes, &half, sizeof(half));
}

template <class Kind>
struct SuperKind {
  static constexpr const char* name = Kind::name;
  static constexpr GgmlType type = Kind::type;
  static constexpr int weights = 256, bytes = Kind::bytes;
  static void decode(const uint8_t* b, float* out) noexcept {
    SuperBlock block;
    Kind::load(b, block);
    const float d = half_at(b + Kind::d_at), dmin = Kind::shape.minima ? half_at(b + Kind::dmin_at) : 0;
    for (int i = 0; i < 256; ++i) {
      const int k = i / Kind::shape.sub;
      const float step = d * static_cast<float>(block.scales[k]);
      if constexpr (Kind::shape.minima)
        out[i] = step * static_cast<float>(block.codes[i]) - dmin * static_cast<float>(block.minima[k]);
      else
        out[i] = step * static_cast<float>(int{block.codes[i]} - Kind::shape.centre);
    }
  }
  static void encode(const float* values, uint8_t* b) {
    const SuperBlock block = block_fit::fit_super(values, Kind::shape);
    std::memset(b, 0, Kind::bytes);
    store_half(block.d, b + Kind::d_at);
    if constexpr (Kind::shape.minima) store_half(block.dmin, b + Kind::dmin_at);
    Kind::store(block, b);
  }
};

// ---- Types that are only read. ----

constexpr int8_t kUneven[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
// Twice the values of a 4-bit float (two bits of exponent, one of mantissa), sign in the top bit.
constexpr int8_t kFloat4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// 32 weights in 16 bytes: j in the low nibble of byte j, j + 16 in the high one.
void decode_levels(const uint8_t* nibbles, const int8_t* levels, float scale, float* out) noexcept {
  for (int j = 0; j < 16; ++j) {
    out[j] = scale * static_cast<float>(levels[nibbles[j] & 15]);
    out[j + 16] = scale * static_cast<float>(levels[nibbles[j] >> 4]);
  }
}

struct Iq4Nl {
  static constexpr const char* name = "iq4_nl";
  static constexpr GgmlType type = GgmlType::iq4_nl;
  static constexpr int weights = 32, bytes = 18;
  static void decode(const uint8_t* b, float* out) noexcept { decode_levels(b + 2, kUneven, half_at(b), out); }
};

struct Iq4Xs {  // d, two high bits of eight scales, their four low bits, nibbles
  static constexpr const char* name = "iq4_xs";
  static constexpr GgmlType type = GgmlType::iq4_xs;
  static constexpr int weights = 256, bytes = 136;
  static void decode(const uint8_t* b, float* out) noexcept {
    for (int k = 0; k < 8; ++k) {
      const int scale = load_bits(b + 4, {k / 2, 4 * (k % 2)}, 15) | load_bits(b + 2, {k / 4, 2 * (k % 4)}, 3) << 4;
      decode_levels(b + 8 + 16 * k, kUneven, half_at(b) * static_cast<float>(scale - 32), out + 32 * k);
    }
  }
};

struct Tq1 {
  static constexpr const char* name = "tq1_0";
  static constexpr GgmlType type = GgmlType::tq1_0;
  static constexpr int weights = 256, bytes = 54;
  // Digit n of a byte that holds a number of base 3, scaled to fill 256: the digits come off the top.
  static float trit(uint8_t byte, int n) noexcept {
    constexpr int kPower[5] = {1, 3, 9, 27, 81};
    return static_cast<float>((static_cast<uint8_t>(byte * kPower[n]) * 3 >> 8) - 1);
  }
  static void decode(const uint8_t* b, float* out) noexcept {
    const float d = half_at(b + 52);
    for (int n = 0; n < 5; ++n) {
      for (int i = 0; i < 32; ++i) out[i + 32 * n] = d * trit(b[i], n);
      for (int i = 0; i < 16; ++i) out[160 + i + 16 * n] = d * trit(b[32 + i], n);
      for (int i = 0; n < 4 && i < 4; ++i) out[240 + i + 4 * n] = d * trit(b[48 + i], n);
    }
  }
};

struct Tq2 {
  static constexpr const char* name = "tq2_0";
  static constexpr GgmlType type = GgmlType::tq2_0;
  static constexpr int weights = 256, bytes = 66;
  static void decode(const uint8_t* b, float* out) noexcept {
    for (int i = 0; i < 256; ++i) out[i] = half_at(b + 64) * static_cast<float>(load_bits(b, pair_place(i), 3) - 1);
  }
};

struct Mxfp4 {
  static constexpr const char* name = "mxfp4";
  static constexpr GgmlType type = GgmlType::mxfp4;
  static constexpr int weights = 32, bytes = 17;
  static void decode(const uint8_t* b, float* out) noexcept {
    // 2^(e - 127) / 2, since the table has twice the values; the two smallest are subnormal floats.
    const uint32_t bits = b[0] < 2 ? 0x00200000u << b[0] : (uint32_t{b[0]} - 1) << 23;
    decode_levels(b + 1, kFloat4, std::bit_cast<float>(bits), out);
  }
};

template <class Kind>
class GgmlDecoded : public Format {
 public:
  std::string name() const override { return Kind::name; }
  std::string label() const override { return Kind::name; }
  Json options() const override { return Json::object(); }
  bool is_ggml() const override { return true; }
  void check_shape(Shape shape, std::string_view tensor) const override {
    check_whole_blocks(shape, tensor, Kind::name, Kind::weights);
  }
  std::vector<PartSpec> parts(Shape shape) const override {
    const uint64_t row_bytes = shape.cols / Kind::weights * Kind::bytes;
    return {{"", Kind::type, shape.count(), shape.rows * row_bytes, row_bytes}};
  }
  void unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
              float* out) const noexcept override {
    const uint64_t blocks = shape.cols / Kind::weights;
    const auto* from = reinterpret_cast<const uint8_t*>(parts[0].data()) + begin * blocks * Kind::bytes;
    for (uint64_t b = 0; b < count * blocks; ++b, from += Kind::bytes, out += Kind::weights) Kind::decode(from, out);
  }
};

template <class Kind>
class GgmlRounded final : public GgmlDecoded<Kind>, public BlockRounding {
 public:
  uint64_t block_weights() const override { return Kind::weights; }
  uint64_t block_bytes() const override { return Kind::bytes; }
  void round_block(const float* weights, std::byte* out) const override {
    Kind::encode(weights, reinterpret_cast<uint8_t*>(out));
  }
};

template <class Class>
FormatPtr make(const Json& options, const std::string& where) {
  format_factories::NoOptions none;
  read_options(none, options, where);
  return std::make_shared<Class>();
}

}  // namespace

namespace format_factories {
#define WHIT_MAKE(factory, Class) \
  FormatPtr factory(const Json& options, const std::string& where) { return make<Class>(options, where); }
WHIT_MAKE(make_q2_k, GgmlRounded<SuperKind<Q2K>>)
WHIT_MAKE(make_q3_k, GgmlRounded<SuperKind<Q3K>>)
WHIT_MAKE(make_q4_k, GgmlRounded<SuperKind<Q45K<false>>>)
WHIT_MAKE(make_q5_k, GgmlRounded<SuperKind<Q45K<true>>>)
WHIT_MAKE(make_q6_k, GgmlRounded<SuperKind<Q6K>>)
WHIT_MAKE(make_iq4_nl, GgmlDecoded<Iq4Nl>)
WHIT_MAKE(make_iq4_xs, GgmlDecoded<Iq4Xs>)
WHIT_MAKE(make_tq1_0, GgmlDecoded<Tq1>)
WHIT_MAKE(make_tq2_0, GgmlDecoded<Tq2>)
WHIT_MAKE(make_mxfp4, GgmlDecoded<Mxfp4>)
#undef WHIT_MAKE
}  // namespace format_factories

}  // namespace whit
