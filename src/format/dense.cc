// f32, f16, bf16: a weight is a float of 4 or 2 bytes.
#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "base/half.h"
#include "format/formats_table.h"

namespace whit {
namespace {

struct F32 {
  static constexpr const char* name = "f32";
  static constexpr GgmlType type = GgmlType::f32;
  using Stored = float;
  static float decode(float stored) noexcept { return stored; }
  static float encode(float weight) noexcept { return weight; }
};

struct F16 {
  static constexpr const char* name = "f16";
  static constexpr GgmlType type = GgmlType::f16;
  using Stored = uint16_t;
  static float decode(uint16_t stored) noexcept { return half_to_float(stored); }
  static uint16_t encode(float weight) noexcept { return float_to_half(weight); }
};

struct Bf16 {
  static constexpr const char* name = "bf16";
  static constexpr GgmlType type = GgmlType::bf16;
  using Stored = uint16_t;
  static float decode(uint16_t stored) noexcept { return bfloat16_to_float(stored); }
  static uint16_t encode(float weight) noexcept { return float_to_bfloat16(weight); }
};

class DenseBase : public Format {
 public:
  virtual Packed pack(const FormatPtr& self, Shape shape, std::span<const float> weights) const = 0;
};

template <class Kind>
class Dense final : public DenseBase {
  using Stored = typename Kind::Stored;

 public:
  std::string name() const override { return Kind::name; }
  std::string label() const override { return Kind::name; }
  Json options() const override { return Json::object(); }
  bool is_ggml() const override { return true; }
  void check_shape(Shape, std::string_view) const override {}
  std::vector<PartSpec> parts(Shape shape) const override {
    return {{"", Kind::type, shape.count(), shape.count() * sizeof(Stored), shape.cols * sizeof(Stored)}};
  }
  void unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
              float* out) const noexcept override {
    const std::byte* from = parts[0].data() + begin * shape.cols * sizeof(Stored);
    for (uint64_t i = 0; i < count * shape.cols; ++i) {
      Stored stored;  // the bytes of a folder's tensor need not be aligned
      std::memcpy(&stored, from + i * sizeof(Stored), sizeof(Stored));
      out[i] = Kind::decode(stored);
    }
  }
  Packed pack(const FormatPtr& self, Shape shape, std::span<const float> weights) const override {
    Packed packed{self, shape, {std::vector<std::byte>(bytes(shape))}};
    std::byte* to = packed.parts[0].data();
    for (uint64_t i = 0; i < shape.count(); ++i) {
      const Stored stored = Kind::encode(weights[i]);
      if (std::isfinite(weights[i]) && !std::isfinite(Kind::decode(stored)))
        throw Error(ErrorKind::numeric, fmt::format("a weight is too large for {}", Kind::name), {},
                    fmt::format("{}", weights[i]), "use bf16 or f32");
      std::memcpy(to + i * sizeof(Stored), &stored, sizeof(Stored));
    }
    return packed;
  }
};

template <class Kind>
FormatPtr make_dense(const Json& options, const std::string& where) {
  format_factories::NoOptions none;
  read_options(none, options, where);
  return std::make_shared<Dense<Kind>>();
}

}  // namespace

namespace format_factories {
FormatPtr make_f32(const Json& options, const std::string& where) { return make_dense<F32>(options, where); }
FormatPtr make_f16(const Json& options, const std::string& where) { return make_dense<F16>(options, where); }
FormatPtr make_bf16(const Json& options, const std::string& where) { return make_dense<Bf16>(options, where); }
}  // namespace format_factories

bool rounds_alone(const FormatPtr& format) {
  return dynamic_cast<const DenseBase*>(format.get()) || dynamic_cast<const BlockRounding*>(format.get());
}

Packed pack_rounded(const FormatPtr& format, Shape shape, std::span<const float> weights) {
  const auto* blocks = dynamic_cast<const BlockRounding*>(format.get());
  if (!blocks) return pack_dense(format, shape, weights);
  WHIT_CHECK(weights.size() == shape.count() && shape.cols % blocks->block_weights() == 0);
  for (const float weight : weights)
    if (!(std::abs(weight) <= kLargestHalf))
      throw Error(ErrorKind::numeric, fmt::format("a weight cannot be stored as {}", format->name()), {},
                  fmt::format("{}", weight), "scales are half floats: use bf16 or f32");
  Packed packed{format, shape, {std::vector<std::byte>(format->bytes(shape))}};
  std::byte* to = packed.parts[0].data();
  for (uint64_t at = 0; at < shape.count(); at += blocks->block_weights(), to += blocks->block_bytes())
    blocks->round_block(weights.data() + at, to);
  return packed;
}

Packed pack_dense(const FormatPtr& format, Shape shape, std::span<const float> weights) {
  WHIT_CHECK(weights.size() == shape.count());
  const auto* dense = dynamic_cast<const DenseBase*>(format.get());
  if (!dense)
    throw Error(ErrorKind::usage, "weights cannot be rounded one by one to this format", "format " + format->name(), {},
                "f32, f16 and bf16 are dense; others need a quantizer");
  return dense->pack(format, shape, weights);
}

}  // namespace whit
