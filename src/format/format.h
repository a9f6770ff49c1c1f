// A storage format: how a matrix becomes bytes, and how many. One row each in formats.def.
// Formats of ggml have one part of their ggml type; ours have several parts, plain I8/F16/F32 tensors in the file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/options.h"
#include "format/nm_pattern.h"
#include "format/tensor.h"

namespace whit {

// Numbers of the GGUF tensor info (only those that we read).
enum class GgmlType : int32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq4_nl = 20,
  iq4_xs = 23,
  i8 = 24,
  bf16 = 30,
  tq1_0 = 34,
  tq2_0 = 35,
  mxfp4 = 39
};

struct PartSpec {
  std::string suffix;  // "codes": stored as NAME.whit.codes; "" for ggml formats: stored under the tensor's own name
  GgmlType type;
  uint64_t count;  // elements
  uint64_t bytes;
  uint64_t row_bytes;  // bytes of one stored row, each row starts on a byte; 0: the part belongs to all rows together
};

class Format {
 public:
  virtual ~Format() = default;
  virtual std::string name() const = 0;           // the row of formats.def: "grid", "q4_1", "f16"
  virtual std::string label() const = 0;          // short and unique among options: "grid3-g32-s8", "q4_1"
  virtual Json options() const = 0;               // all options, normalized; {} where there are none
  virtual bool is_ggml() const = 0;               // true: the tensor is an ordinary GGUF tensor
  virtual bool storable() const { return true; }  // false: only read from folders; no file that we write can hold it
  // Where the format stores which weights are kept (its first part), how many those are. Only a matrix pruned to
  // exactly this pattern can be stored, and only its kept weights are.
  virtual std::optional<NmPattern> pattern() const { return std::nullopt; }
  // Throws ErrorKind::input naming `tensor` when the shape cannot be stored (a row that is no multiple of a ggml
  // block).
  virtual void check_shape(Shape shape, std::string_view tensor) const = 0;
  virtual std::vector<PartSpec> parts(Shape shape) const = 0;
  // What sizes cannot say, of parts from a file. ErrorKind::input naming `tensor` for what no packer writes and pack() would
  // not take back.
  virtual void check_parts(Shape, std::span<const std::span<const std::byte>>, std::string_view /*tensor*/) const {}
  uint64_t bytes(Shape shape) const;  // sum over parts, without padding
  double bits_per_weight(Shape shape) const;
  // Bits per weight as the method's paper counts them where it leaves out parts of what is stored; 0: nothing is left
  // out.
  virtual double paper_bits(Shape, std::span<const std::span<const std::byte>>) const noexcept { return 0; }
  // Plain reference decoder: stored rows [begin, begin + count) (not GGUF order, in the basis that they are stored in)
  // to floats [count, cols]. noexcept: the parts have the sizes of parts(shape).
  virtual void unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
                      float* out) const noexcept = 0;
};

using FormatPtr = std::shared_ptr<const Format>;

// A packed matrix that owns its bytes.
struct Packed {
  FormatPtr format;
  Shape shape;
  std::vector<std::vector<std::byte>> parts;
  UnitRotation rotation{};  // the basis that they are stored in
  uint64_t bytes() const noexcept;
  // The parts as Format::unpack() takes them.
  std::vector<std::span<const std::byte>> views() const { return {parts.begin(), parts.end()}; }
};

// A StoredTensor over (and owning) the packed bytes.
StoredTensor make_stored(std::string name, std::shared_ptr<const Packed> packed, std::vector<Member> members = {});

// From a row's name and its options. Unknown names and options are ErrorKind::usage with the nearest known one.
FormatPtr make_format(std::string_view name, const Json& options = Json::object());
// From the recipe's value: {name = "grid", bits = 3, ...} or the string "q4_0".
FormatPtr make_format_from(const Json& json, const std::string& where);
// The inverse: {"name": ..., options...}.
Json format_to_json(const Format& format);

struct FormatRow {
  std::string name, summary;
};
const std::vector<FormatRow>& format_rows();

// ---- Affine formats: w = col[j] * (scale[i, j / group] * q + minimum[i, j / group]), q an integer. ----
// Rounding methods know these and nothing else of a format.

// The levels of a row group after its parameters were rounded to what the format stores.
struct AffineParameters {
  uint64_t groups_per_row = 1;
  std::vector<float> scale;    // [rows, groups_per_row], as the decoder will see it
  std::vector<float> minimum;  // the same; w = scale * q + minimum
  std::vector<float> column;   // [cols], or empty: 1
};

struct AffineCodes {
  Shape shape;
  std::vector<uint8_t> codes;  // [rows, cols], 0 .. levels() - 1
  AffineParameters parameters;
  std::vector<uint8_t> mask = {};  // [rows, cols], 1 = kept, where the format has a pattern(); codes elsewhere are 0
};

class AffineFormat : public Format {
 public:
  virtual uint32_t levels() const = 0;              // 2^bits
  virtual uint64_t group(uint64_t cols) const = 0;  // weights that share scale and minimum (cols: one group a row)
  // symmetric: minimum is fixed to -centre() * scale, so only the scale is free.
  virtual bool symmetric() const = 0;
  virtual double centre() const = 0;
  virtual bool has_columns() const = 0;  // a scale per column ("rc")
  // Rounds wished parameters (any real scale >= 0 or signed where the format allows, any minimum) to storable ones, row
  // super-scales included, in place. Deterministic, idempotent.
  virtual void round_parameters(Shape shape, AffineParameters& parameters) const = 0;
  // Codes with parameters that round_parameters leaves unchanged. Throws ErrorKind::internal for illegal codes.
  virtual Packed pack(const AffineCodes& codes) const = 0;
  // The inverse of pack().
  virtual AffineCodes unpack_codes(const Packed& packed) const = 0;
};

// Null when the format is not affine.
std::shared_ptr<const AffineFormat> as_affine(const FormatPtr& format);

// A format of ggml that rounds a block of weights by itself, without knowing what the model does with them.
class BlockRounding {
 public:
  virtual ~BlockRounding() = default;
  virtual uint64_t block_weights() const = 0;
  virtual uint64_t block_bytes() const = 0;
  // weights[block_weights()], finite and at most 65504 in magnitude, to out[block_bytes()], near the least squared
  // error.
  virtual void round_block(const float* weights, std::byte* out) const = 0;
};

// Dense formats and those with BlockRounding. Throws ErrorKind::usage for others, ErrorKind::numeric for weights that
// the format cannot hold. For blocks, rows must be whole ones (check_shape).
bool rounds_alone(const FormatPtr& format);
Packed pack_rounded(const FormatPtr& format, Shape shape, std::span<const float> weights);

// Dense formats (f32, f16, bf16) and any other that needs no search: round each weight. Throws ErrorKind::usage for
// others.
Packed pack_dense(const FormatPtr& format, Shape shape, std::span<const float> weights);
// The same for dense formats with a pattern(): nm_f16.
Packed pack_masked(const FormatPtr& format, Shape shape, std::span<const float> weights, std::span<const uint8_t> mask);

// A copy of the stored bytes in the stored format, rows in GGUF order: what "copy" does. View may be one member.
// ErrorKind::usage for a format that is not storable().
Packed copy_packed(const TensorView& view);

}  // namespace whit
