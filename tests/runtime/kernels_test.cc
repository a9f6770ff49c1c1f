// Kernels of every level of the machine against plain references in double. Tolerances: a sum of n float products in
// any order errs by at most n * eps * sum |terms| (Higham, Accuracy and Stability, 3.1), eps = 2^-24; each weight and
// each multiply-add adds a few roundings, so bounds are (n + 8) * 2^-23 * sum |terms|, a factor 2 for rounding up to 1
// ulp.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numbers>

#include "base/half.h"
#include "base/rng.h"
#include "format/binary_groups.h"
#include "format/format.h"
#include "format/lowrank_sign.h"
#include "format/nm_sign.h"
#include "runtime/attention.h"
#include "runtime/cpu/dispatch.h"
#include "runtime/linear.h"
#include "runtime/stored_matrix.h"

namespace whit {
namespace {

constexpr double kEps = 0x1p-23;

float wild(Rng& rng) {  // now and then an outlier or a zero
  const double kind = rng.uniform();
  if (kind < 0.05) return 0.0f;
  const float x = static_cast<float>(rng.normal());
  return kind < 0.07 ? 100.0f * x : x;
}

// Which weights are kept: the first of each group, one place further in every row.
std::vector<uint8_t> turning_mask(NmPattern pattern, Shape shape) {
  std::vector<uint8_t> mask(shape.count(), 0);
  for (uint64_t i = 0; i < shape.rows; ++i)
    for (uint64_t j = 0; j < shape.cols; ++j) {
      const uint64_t begin = j / pattern.m * pattern.m, size = std::min<uint64_t>(pattern.m, shape.cols - begin);
      mask[i * shape.cols + j] = (j - begin + i) % size < pattern.kept_of(size);
    }
  return mask;
}

// Types of ggml that no affine format describes: the bytes of a block, and where its halves stand.
struct BlockLayout {
  const char* name;
  size_t bytes;
  std::vector<size_t> halves;
};
const BlockLayout* block_layout(const Format& format) {
  static const std::vector<BlockLayout> kLayouts = {
      {"q2_k", 84, {80, 82}}, {"q3_k", 110, {108}}, {"q4_k", 144, {0, 2}}, {"q5_k", 176, {0, 2}}, {"q6_k", 210, {208}},
      {"iq4_nl", 18, {0}},    {"iq4_xs", 136, {0}}, {"mxfp4", 17, {}},     {"tq1_0", 54, {52}},   {"tq2_0", 66, {64}}};
  const auto found = std::find_if(kLayouts.begin(), kLayouts.end(),
                                  [&](const BlockLayout& layout) { return layout.name == format.name(); });
  return found == kLayouts.end() ? nullptr : &*found;
}

// Every bit of a block by chance, but for its halves, which are numbers, and the exponent of mxfp4.
std::shared_ptr<const Packed> random_blocks(const FormatPtr& format, const BlockLayout& layout, Shape shape, Rng& rng) {
  Packed packed{format, shape, {std::vector<std::byte>(format->parts(shape).at(0).bytes)}};
  std::vector<std::byte>& data = packed.parts[0];
  for (std::byte& byte : data) byte = static_cast<std::byte>(rng.below(256));
  for (size_t block = 0; block < data.size(); block += layout.bytes) {
    for (const size_t at : layout.halves) {
      const uint16_t half = float_to_half(wild(rng));
      std::memcpy(&data[block + at], &half, sizeof(half));
    }
    if (layout.halves.empty())
      data[block] = static_cast<std::byte>(rng.below(8) < 2 ? rng.below(3) : 120 + rng.below(12));
  }
  return std::make_shared<Packed>(std::move(packed));
}

// A packed matrix of random codes (or floats) in the format.
std::shared_ptr<const Packed> random_packed(const FormatPtr& format, Shape shape, Rng& rng) {
  if (const auto affine = as_affine(format)) {
    AffineCodes codes;
    codes.shape = shape;
    for (uint64_t i = 0; i < shape.count(); ++i)
      codes.codes.push_back(static_cast<uint8_t>(rng.below(affine->levels())));
    const uint64_t group = affine->group(shape.cols), groups = (shape.cols + group - 1) / group;
    AffineParameters& p = codes.parameters;
    p.groups_per_row = groups;
    for (uint64_t i = 0; i < shape.rows * groups; ++i) {
      // A row of zeros, constant groups, and scales over three orders of magnitude.
      const float scale = i < groups || rng.below(9) == 0 ? 0.0f : static_cast<float>(std::exp(rng.uniform() * 7 - 8));
      p.scale.push_back(scale);
      p.minimum.push_back(affine->symmetric() ? -static_cast<float>(affine->centre()) * scale
                                              : scale * static_cast<float>(-8 * rng.uniform()));
    }
    if (affine->has_columns())
      for (uint64_t j = 0; j < shape.cols; ++j) p.column.push_back(static_cast<float>(0.5 + rng.uniform()));
    affine->round_parameters(shape, p);
    if (const auto pattern = format->pattern()) codes.mask = turning_mask(*pattern, shape);
    return std::make_shared<Packed>(affine->pack(codes));
  }
  if (const auto binary = as_binary_groups(format)) {
    BinaryGroups groups = binary->empty(shape);
    for (uint64_t j = 0; j < shape.cols; j += 7) groups.salient[j] = 1;
    for (uint64_t k = 0; k < shape.count(); ++k) {
      groups.sign[k] = rng.below(2) != 0;
      groups.second[k] = rng.below(2) != 0;
      groups.region[k] = static_cast<uint8_t>(rng.below(static_cast<uint64_t>(binary->binary_options().regions)));
    }
    for (auto* values : {&groups.scale, &groups.mean, &groups.column})
      for (float& value : *values) value = wild(rng);
    if (const auto pattern = format->pattern()) groups.mask = turning_mask(*pattern, shape);
    return std::make_shared<Packed>(binary->pack(groups));
  }
  if (const auto lowrank = as_lowrank_sign(format)) {
    const uint64_t rank = lowrank->rank(shape);
    LowrankSignFactors f{shape, {}, {}, {}, {}, {}};
    const auto fill = [&](std::vector<float>& values, uint64_t count) {
      for (uint64_t i = 0; i < count; ++i) values.push_back(wild(rng));
    };
    fill(f.u, shape.rows * rank);
    fill(f.v, rank * shape.cols);
    fill(f.h, shape.rows);
    fill(f.l, rank);
    fill(f.g, shape.cols);
    return std::make_shared<Packed>(lowrank->pack(f));
  }
  if (const auto nm = as_nm_sign(format)) {
    const NmPattern pattern = nm->kept_pattern();
    NmSigns s{shape, std::vector<int8_t>(shape.count(), 0), {}, {}};
    for (uint64_t i = 0; i < shape.rows; ++i) {
      s.scales.push_back(i == 0 ? 0.0f : wild(rng));
      for (uint64_t begin = 0; begin < shape.cols; begin += pattern.m) {
        const uint64_t size = std::min<uint64_t>(pattern.m, shape.cols - begin);
        for (unsigned left = pattern.kept_of(size); left > 0;)
          if (int8_t& sign = s.signs[i * shape.cols + begin + rng.below(size)]; sign == 0)
            sign = rng.below(2) ? 1 : -1, --left;
      }
    }
    for (uint64_t j = 0; nm->has_columns() && j < shape.cols; ++j) s.columns.push_back(wild(rng));
    return std::make_shared<Packed>(nm->pack(s));
  }
  if (const BlockLayout* layout = block_layout(*format)) return random_blocks(format, *layout, shape, rng);
  std::vector<float> weights;
  for (uint64_t i = 0; i < shape.count(); ++i) weights.push_back(wild(rng));
  if (const auto pattern = format->pattern())
    return std::make_shared<Packed>(pack_masked(format, shape, weights, turning_mask(*pattern, shape)));
  return std::make_shared<Packed>(pack_rounded(format, shape, weights));
}

std::vector<FormatPtr> all_formats() {
  std::vector<FormatPtr> formats;
  for (const char* name : {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k",
                           "q6_k", "iq4_nl", "iq4_xs", "mxfp4", "tq1_0", "tq2_0"})
    formats.push_back(make_format(name));
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    size_t turn = static_cast<size_t>(bits);  // every parameter storage at 3 bits, one after another at the others
    for (const int group : {16, 24, 32, 40, 64, 128})
      for (const int parameter_bits : {6, 8, 16})
        for (const char* zero : {"minimum", "integer", "symmetric"})
          if (bits == 3 || turn++ % 7 == 0)
            formats.push_back(make_format(
                "grid", {{"bits", bits}, {"group", group}, {"parameter_bits", parameter_bits}, {"zero", zero}}));
    formats.push_back(make_format("grid", {{"bits", bits}, {"group", 0}, {"parameter_bits", 16}, {"zero", "minimum"}}));
    formats.push_back(make_format(
        "grid", {{"bits", bits}, {"group", 0}, {"parameter_bits", 16}, {"zero", "symmetric"}, {"columns", true}}));
  }
  for (const auto& [n, m] :
       std::vector<std::pair<int, int>>{{2, 8}, {3, 16}, {1, 8}, {8, 8}, {16, 32}, {5, 7}, {2, 24}, {1, 1}})
    formats.push_back(make_format("nm_sign", {{"n", n}, {"m", m}, {"columns", n % 2 == 0}}));
  for (const int rank : {8, 24, 200}) formats.push_back(make_format("lowrank_sign", {{"rank", rank}}));
  formats.push_back(make_format("nm_grid"));
  formats.push_back(make_format("nm_grid", {{"n", 2}, {"m", 4}, {"bits", 3}, {"group", 64}, {"zero", "symmetric"}}));
  formats.push_back(make_format("nm_f16", {{"n", 3}, {"m", 16}}));
  formats.push_back(make_format("binary_groups"));
  formats.push_back(make_format("binary_groups", {{"regions", 3}, {"n", 4}, {"m", 8}, {"block", 64}}));
  formats.push_back(make_format("binary_groups", {{"columns", true}}));
  return formats;
}

std::vector<Shape> shapes_of(const Format& format) {
  std::vector<Shape> shapes = {{3, 32}, {65, 160}, {34, 544}};
  if (format.is_ggml() && as_affine(FormatPtr(&format, [](const Format*) {}))) return shapes;
  if (block_layout(format)) return {{3, 256}, {34, 768}};
  if (format.name() == "nm_sign")
    return {{3, 32}, {33, 65}, {257, 172}, {9, 15}, {260, 288}};  // rows enough for tables
  return {{3, 32}, {33, 65}, {4, 172}, {9, 15}};
}

// What the decoder's roundings are relative to: |scale q| + |minimum| times |column|, per weight; |w| for dense
// formats; of factors, the sum over the rank of the terms' magnitudes.
std::vector<double> magnitudes(const Packed& packed, const std::vector<float>& weights) {
  std::vector<double> out(weights.size());
  if (const auto lowrank = as_lowrank_sign(packed.format)) {
    const LowrankSignFactors f = lowrank->unpack_factors(packed);
    double sum = 0;
    for (const float l : f.l) sum += std::abs(double{l});
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = sum * std::abs(double{f.h[i / packed.shape.cols]} * f.g[i % packed.shape.cols]);
    return out;
  }
  const auto affine = as_affine(packed.format);
  if (!affine) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = std::abs(double{weights[i]});
    return out;
  }
  const AffineCodes codes = affine->unpack_codes(packed);
  const uint64_t cols = packed.shape.cols, group = affine->group(cols), groups = codes.parameters.groups_per_row;
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t g = i / cols * groups + i % cols / group;
    out[i] =
        std::abs(double{codes.parameters.scale[g]} * codes.codes[i]) + std::abs(double{codes.parameters.minimum[g]});
    if (!codes.parameters.column.empty()) out[i] *= std::abs(double{codes.parameters.column[i % cols]});
  }
  return out;
}

struct Level {
  cpu::Kernels kernels;
  std::string name;
};
struct CurveCase {
  const char* name;
  cpu::Curve curve;
  double (*function)(double);
  double relative;  // error in eps; that of a power of e grows with the power
};
std::vector<CurveCase> curves() {
  return {
      {"silu", cpu::Curve::silu, [](double v) { return v / (1 + std::exp(-v)); }, 8},
      {"relu", cpu::Curve::relu, [](double v) { return std::max(v, 0.0); }, 0},
      {"gelu", cpu::Curve::gelu, [](double v) { return 0.5 * v * std::erfc(-v / std::sqrt(2.0)); }, 8},
      {"gelu_tanh", cpu::Curve::gelu_tanh,
       [](double v) { return v / (1 + std::exp(-2 * std::sqrt(2 / std::numbers::pi) * (v + 0.044715 * v * v * v))); },
       400}};
}

std::vector<Level> all_levels() {
  std::vector<Level> levels;
  for (const std::string& name : cpu::levels()) levels.push_back({cpu::kernels_of(name), name});
  return levels;
}

// x as the executor keeps it: rows of row_stride(cols), zero past cols.
struct Activations {
  size_t cols, stride;
  Buffer<float> data;
  Activations(size_t rows, size_t c, Rng& rng) : cols(c), stride(row_stride(c)), data(rows * stride) {
    for (size_t t = 0; t < rows; ++t)
      for (size_t j = 0; j < c; ++j) data.data()[t * stride + j] = wild(rng);
  }
  const float* row(size_t t) const { return data.data() + t * stride; }
};

TEST(Kernels, EveryFormatTimesFloats) {
  Rng rng(1);
  const auto levels = all_levels();
  ThreadPool pool(2);
  for (const FormatPtr& format : all_formats()) {
    for (const Shape shape : shapes_of(*format)) {
      const auto packed = random_packed(format, shape, rng);
      const StoredTensor tensor = make_stored("weight", packed);
      std::vector<float> weights(shape.count());
      unpack_rows({&tensor, 0, shape.rows}, 0, shape.rows, weights);
      const std::vector<double> size = magnitudes(*packed, weights);
      const std::vector<TensorView> views = {{&tensor, 0, shape.rows}};
      const Linear linear(views, ActivationType::fp32);
      const size_t tokens = 5;
      const Activations x(tokens, shape.cols, rng);
      for (const Level& level : levels) {
        Multiplier multiplier(level.kernels, pool, linear.widest(), tokens);
        std::vector<float> row(shape.cols + 1, 7.0f);
        const double roundings = as_lowrank_sign(format) ? static_cast<double>(linear.widest() + 8) : 4;  // sums
        multiplier.unpack_row(linear, shape.rows - 1, row.data());
        for (size_t j = 0; j < shape.cols; ++j) {
          const size_t i = (shape.rows - 1) * shape.cols + j;
          ASSERT_NEAR(row[j], weights[i], roundings * kEps * size[i]) << format->label() << " " << level.name;
        }
        ASSERT_EQ(row[shape.cols], 7.0f);
        for (const size_t count : {size_t{1}, tokens}) {  // by rows, by panels
          const size_t stride = shape.rows + 3;
          std::vector<float> out(count * stride, 7.0f);
          multiplier.multiply(linear, x.data.data(), count, out.data(), stride);
          for (size_t t = 0; t < count; ++t) {
            for (size_t r = 0; r < shape.rows; ++r) {
              double sum = 0, bound = 0;
              for (size_t j = 0; j < shape.cols; ++j) {
                sum += double{weights[r * shape.cols + j]} * x.row(t)[j];
                bound += size[r * shape.cols + j] * std::abs(x.row(t)[j]);
              }
              bound *= kEps * static_cast<double>(std::max(linear.widest(), shape.cols) + 8);
              ASSERT_LE(std::abs(out[t * stride + r] - sum), bound)
                  << format->label() << " " << level.name << " " << shape.rows << "x" << shape.cols << " row " << r
                  << " of " << count;
            }
            for (size_t r = shape.rows; r < stride; ++r) ASSERT_EQ(out[t * stride + r], 7.0f);
          }
        }
      }
    }
  }
}

// Infinities and NaN of damaged files are seen on every level: Highway's own conversion makes 65,536 of infinity on
// some.
TEST(Kernels, EveryHalfIsReadAsItIs) {
  const Shape shape{256, 256};
  std::vector<std::byte> halves(2 * shape.count());
  for (size_t i = 0; i < shape.count(); ++i) std::memcpy(halves.data() + 2 * i, &i, 2);  // low bytes first
  const FormatPtr f16 = make_format("f16");
  const StoredTensor tensor = make_stored("weight", std::make_shared<Packed>(Packed{f16, shape, {halves}}));
  std::vector<std::byte> blocks(shape.count() / 32 * 20, std::byte{1});  // scale, minimum, 16 bytes of codes
  for (size_t row = 0; row < shape.rows; ++row)
    blocks[row * 160] = std::byte{0}, blocks[row * 160 + 1] = std::byte{0x7c};
  const StoredTensor scaled =
      make_stored("scaled", std::make_shared<Packed>(Packed{make_format("q4_1"), shape, {blocks}}));
  Rng rng(5);
  const Activations x(1, shape.cols, rng);
  ThreadPool pool(1);
  for (const Level& level : all_levels()) {
    const std::vector<TensorView> views = {{&tensor, 0, shape.rows}}, scaled_views = {{&scaled, 0, shape.rows}};
    const Linear linear(views, ActivationType::fp32);
    Multiplier multiplier(level.kernels, pool, linear.widest(), 1);
    std::vector<float> row(shape.cols), out(shape.rows);
    for (size_t r = 0; r < shape.rows; ++r) {
      multiplier.unpack_row(linear, r, row.data());
      for (size_t j = 0; j < shape.cols; ++j) {
        const float wanted = half_to_float(static_cast<uint16_t>(r * shape.cols + j));
        if (std::isnan(wanted))
          ASSERT_TRUE(std::isnan(row[j])) << level.name << " " << r * shape.cols + j;
        else
          ASSERT_EQ(std::bit_cast<uint32_t>(row[j]), std::bit_cast<uint32_t>(wanted)) << level.name;
      }
    }
    for (const ActivationType activations : {ActivationType::fp32, ActivationType::int8}) {
      const Linear blocked(scaled_views, activations);
      Multiplier multiply(level.kernels, pool, blocked.widest(), 1);
      multiply.multiply(blocked, x.data.data(), 1, out.data(), out.size());
      for (const float y : out) ASSERT_FALSE(std::isfinite(y)) << level.name;
    }
  }
}

// Codes of a block in plain C++, as quantize defines them.
void plain_quantize(const float* x, size_t cols, size_t block, std::vector<int>& codes, std::vector<float>& scales) {
  codes.assign(cols, 0);
  scales.clear();
  for (size_t begin = 0; begin < cols; begin += block) {
    const size_t end = std::min(cols, begin + block);
    float largest = 0;
    for (size_t j = begin; j < end; ++j) largest = std::max(largest, std::abs(x[j]));
    const bool zero = !(largest > 1e-30f);
    scales.push_back(zero ? 0.0f : largest / 127.0f);
    for (size_t j = begin; j < end; ++j)
      codes[j] = zero ? 0 : static_cast<int>(std::nearbyintf(x[j] * (127.0f / largest)));
  }
}

// The weights without the scales of columns, and |scale q| + |minimum| of each; where a format does not say its codes,
// the largest weight of the row stands for both.
std::pair<std::vector<double>, std::vector<double>> weights_and_sizes(const Packed& packed) {
  const Shape shape = packed.shape;
  std::vector<double> weights(shape.count()), sizes(shape.count());
  if (const auto affine = as_affine(packed.format)) {
    const AffineCodes codes = affine->unpack_codes(packed);
    const uint64_t group = affine->group(shape.cols), groups = codes.parameters.groups_per_row;
    for (size_t i = 0; i < weights.size(); ++i) {
      const size_t g = i / shape.cols * groups + i % shape.cols / group;
      const double product = double{codes.parameters.scale[g]} * codes.codes[i];
      weights[i] = product + codes.parameters.minimum[g];
      sizes[i] = std::abs(product) + std::abs(double{codes.parameters.minimum[g]});
    }
    return {weights, sizes};
  }
  const StoredTensor tensor = make_stored("weight", std::make_shared<Packed>(packed));
  std::vector<float> values(shape.count());
  unpack_rows({&tensor, 0, shape.rows}, 0, shape.rows, values);
  for (size_t r = 0; r < shape.rows; ++r) {
    double most = 0;
    for (size_t j = 0; j < shape.cols; ++j) most = std::max(most, std::abs(double{values[r * shape.cols + j]}));
    std::fill_n(sizes.begin() + static_cast<ptrdiff_t>(r * shape.cols), shape.cols, 2 * most);
  }
  std::copy(values.begin(), values.end(), weights.begin());
  return {weights, sizes};
}

TEST(Kernels, EveryAffineFormatTimesBytes) {
  Rng rng(2);
  const auto levels = all_levels();
  ThreadPool pool(2);
  for (const FormatPtr& format : all_formats()) {
    if (format->pattern()) continue;  // sparse formats have no kernel: floats only
    for (const Shape shape : shapes_of(*format)) {
      const auto packed = random_packed(format, shape, rng);
      const StoredTensor tensor = make_stored("weight", packed);
      std::vector<float> columns;
      if (!format->is_ggml() && !as_affine(format)) continue;
      const cpu::StoredMatrix matrix = stored_matrix({&tensor, 0, shape.rows}, columns);
      if (!matrix.affine()) continue;
      const auto [weights, sizes] = weights_and_sizes(*packed);
      const size_t block = matrix.activation_block(), tokens = 5;
      const std::vector<TensorView> views = {{&tensor, 0, shape.rows}};
      const Linear linear(views, ActivationType::int8);
      const Activations x(tokens, shape.cols, rng);
      for (const Level& level : levels) {
        Multiplier multiplier(level.kernels, pool, shape.cols, tokens);
        for (const size_t count : {size_t{1}, tokens}) {
          std::vector<float> out(count * shape.rows);
          multiplier.multiply(linear, x.data.data(), count, out.data(), shape.rows);
          for (size_t t = 0; t < count; ++t) {
            std::vector<float> scaled(x.row(t), x.row(t) + shape.cols);
            for (size_t j = 0; j < columns.size(); ++j) scaled[j] *= columns[j];
            std::vector<int> q;
            std::vector<float> scales;
            plain_quantize(scaled.data(), shape.cols, block, q, scales);
            for (size_t r = 0; r < shape.rows; ++r) {
              double sum = 0, bound = 0;
              for (size_t j = 0; j < shape.cols; ++j) {
                const double activation = double{scales[j / block]} * q[j];
                sum += weights[r * shape.cols + j] * activation;
                bound += sizes[r * shape.cols + j] * std::abs(activation);
              }
              // Inside a block integers are exact; blocks, their scalings and minima round.
              bound *= kEps * static_cast<double>(2 * scales.size() + 8);
              ASSERT_LE(std::abs(out[t * shape.rows + r] - sum), bound)
                  << format->label() << " " << level.name << " " << shape.rows << "x" << shape.cols << " row " << r
                  << " of " << count;
            }
          }
        }
      }
    }
  }
}

// With scales of one everything is an integer below 2^24: the kernels must be exact.
TEST(Kernels, IntegersAreExact) {
  Rng rng(3);
  for (const char* name : {"q8_0", "q4_0", "q4_1", "grid"}) {
    const FormatPtr format =
        std::string(name) == "grid"
            ? make_format("grid", {{"bits", 8}, {"group", 48}, {"parameter_bits", 16}, {"zero", "minimum"}})
            : make_format(name);
    const auto affine = as_affine(format);
    const Shape shape{37, 192};
    AffineCodes codes;
    codes.shape = shape;
    codes.parameters.groups_per_row = shape.cols / affine->group(shape.cols);
    for (uint64_t i = 0; i < shape.count(); ++i)  // extremes among them: 255 * 127 in one direction
      codes.codes.push_back(static_cast<uint8_t>(i < 2 * shape.cols ? (i < shape.cols ? affine->levels() - 1 : 0)
                                                                    : rng.below(affine->levels())));
    codes.parameters.scale.assign(shape.rows * codes.parameters.groups_per_row, 1.0f);
    const float minimum = affine->symmetric() ? -static_cast<float>(affine->centre()) : -3.0f;
    codes.parameters.minimum.assign(codes.parameters.scale.size(), minimum);
    const StoredTensor tensor = make_stored("weight", std::make_shared<Packed>(affine->pack(codes)));
    const std::vector<TensorView> views = {{&tensor, 0, shape.rows}};
    const Linear linear(views, ActivationType::int8);
    Activations x(4, shape.cols, rng);
    for (size_t t = 0; t < 4; ++t)
      for (size_t j = 0; j < shape.cols; ++j)
        x.data.data()[t * x.stride + j] =
            j % 8 == 0 || t == 0 ? 127.0f : static_cast<float>(static_cast<int>(rng.below(255)) - 127);
    ThreadPool pool(1);
    for (const Level& level : all_levels()) {
      Multiplier multiplier(level.kernels, pool, shape.cols, 4);
      for (const size_t count : {1, 4}) {
        std::vector<float> out(count * shape.rows);
        multiplier.multiply(linear, x.data.data(), count, out.data(), shape.rows);
        for (size_t t = 0; t < count; ++t)
          for (size_t r = 0; r < shape.rows; ++r) {
            int64_t sum = 0;
            for (size_t j = 0; j < shape.cols; ++j)
              sum += (int64_t{codes.codes[r * shape.cols + j]} + static_cast<int64_t>(minimum)) *
                     static_cast<int64_t>(x.row(t)[j]);
            ASSERT_EQ(out[t * shape.rows + r], static_cast<float>(sum)) << name << " " << level.name << " row " << r;
          }
      }
    }
  }
}

// Members of a stack, rows in half-split order, parts in different formats side by side.
TEST(Kernels, RowsOfViews) {
  Rng rng(4);
  const Shape shape{48, 64};
  StoredTensor tensor = make_stored("stack", random_packed(make_format("q4_1"), shape, rng));
  const StoredTensor other = make_stored("other", random_packed(make_format("f16"), {8, 64}, rng));
  tensor.half_split_head = 16;
  std::vector<float> weights(16 * 64 + 8 * 64);
  unpack_rows({&tensor, 16, 16}, 0, 16, std::span(weights).first(16 * 64));
  unpack_rows({&other, 0, 8}, 0, 8, std::span(weights).subspan(16 * 64));
  const std::vector<TensorView> views = {{&tensor, 16, 16}, {&other, 0, 8}};
  const Linear linear(views, ActivationType::fp32);
  ASSERT_EQ(linear.rows(), 24u);
  const Activations x(4, 64, rng);
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const Level& level : all_levels()) {
      Multiplier multiplier(level.kernels, pool, 64, 4);
      for (const size_t count : {1, 4}) {
        std::vector<float> out(count * 24);
        multiplier.multiply(linear, x.data.data(), count, out.data(), 24);
        for (size_t t = 0; t < count; ++t)
          for (size_t r = 0; r < 24; ++r) {
            double sum = 0, bound = 0;
            for (size_t j = 0; j < 64; ++j) {
              sum += double{weights[r * 64 + j]} * x.row(t)[j];
              bound += std::abs(double{weights[r * 64 + j]} * x.row(t)[j]);
            }
            ASSERT_NEAR(out[t * 24 + r], sum, 1e-5 * (bound + 1)) << level.name << " row " << r;
          }
      }
    }
  }
}

// Members of a stack of factors share V^T x; beside them a matrix of another format. Rounded activations stay near: a
// block of 8-bit codes errs by 1/254 of its largest value a weight.
TEST(Kernels, FactorsOfAStack) {
  Rng rng(9);
  const StoredTensor stack =
      make_stored("stack", random_packed(make_format("lowrank_sign", {{"rank", 40}}), {48, 100}, rng));
  const StoredTensor other = make_stored("other", random_packed(make_format("f16"), {8, 100}, rng));
  const std::vector<TensorView> views = {{&stack, 0, 16}, {&stack, 16, 9}, {&other, 0, 8}, {&stack, 25, 23}};
  std::vector<float> weights(56 * 100);
  unpack_rows({&stack, 0, 25}, 0, 25, std::span(weights).first(25 * 100));
  unpack_rows({&other, 0, 8}, 0, 8, std::span(weights).subspan(25 * 100, 8 * 100));
  unpack_rows({&stack, 25, 23}, 0, 23, std::span(weights).subspan(33 * 100));
  const Activations x(5, 100, rng);
  for (const ActivationType type : {ActivationType::fp32, ActivationType::int8}) {
    const Linear linear(views, type);
    ASSERT_EQ(linear.rows(), 56u);
    for (const Level& level : all_levels()) {
      ThreadPool pool(2);
      Multiplier multiplier(level.kernels, pool, linear.widest(), 5);
      for (const size_t count : {1, 5}) {
        std::vector<float> out(count * 56);
        multiplier.multiply(linear, x.data.data(), count, out.data(), 56);
        for (size_t t = 0; t < count; ++t) {
          double error = 0, size = 0;
          for (size_t r = 0; r < 56; ++r) {
            double sum = 0;
            for (size_t j = 0; j < 100; ++j) sum += double{weights[r * 100 + j]} * x.row(t)[j];
            error += std::pow(out[t * 56 + r] - sum, 2);
            size += sum * sum;
          }
          EXPECT_LT(std::sqrt(error / size), type == ActivationType::int8 ? 0.05 : 1e-5) << level.name << " " << count;
        }
      }
    }
  }
}

TEST(Kernels, GemmOfEveryShape) {
  Rng rng(5);
  std::vector<float> a(30 * 70), b(70 * 64);
  for (float& v : a) v = wild(rng);
  for (float& v : b) v = wild(rng);
  for (const Level& level : all_levels())
    for (const size_t m : {1, 2, 3, 5, 6, 7, 12, 13, 18, 26})
      for (const size_t n : {1, 7, 8, 9, 16, 31, 32})
        for (const size_t k : {0, 1, 16, 65}) {
          std::vector<float> c(m * 40, 7.0f);
          level.kernels.gemm_f32(a.data() + 1, 70, m, b.data() + 1, 37, k, c.data(), 40, n);
          for (size_t i = 0; i < m; ++i)
            for (size_t j = 0; j < 40; ++j) {
              if (j >= n) {
                ASSERT_EQ(c[i * 40 + j], 7.0f);
                continue;
              }
              double sum = 0, bound = 0;
              for (size_t l = 0; l < k; ++l) {
                const double term = double{a[1 + i * 70 + l]} * b[1 + l * 37 + j];
                sum += term;
                bound += std::abs(term);
              }
              ASSERT_LE(std::abs(c[i * 40 + j] - sum), bound * kEps * static_cast<double>(k + 1)) << level.name;
            }
        }
}

// Lengths up to two registers and one, from misaligned memory, with guards behind the output.
TEST(Kernels, Vectors) {
  Rng rng(6);
  for (const Level& level : all_levels())
    for (size_t n = 0; n <= 33; ++n)
      for (const size_t shift : {0, 1, 3}) {
        std::vector<float> xs(n + 8), ys(n + 8), out(n + 9, 7.0f);
        for (float& v : xs) v = wild(rng);
        for (float& v : ys) v = wild(rng);
        const float *x = xs.data() + shift, *y = ys.data() + shift;
        const auto check = [&](const char* what, auto&& expected, double relative) {
          for (size_t i = 0; i < n; ++i) {
            const double want = expected(i);
            ASSERT_NEAR(out[shift + i], want, relative * kEps * std::abs(want) + 1e-36)
                << what << " " << level.name << " " << n;
          }
          ASSERT_EQ(out[shift + n], 7.0f) << what << " " << level.name << " " << n;
          std::fill(out.begin(), out.end(), 7.0f);
        };
        float* to = out.data() + shift;
        level.kernels.multiply(x, y, n, to);
        check(
            "multiply", [&](size_t i) { return double{x[i]} * y[i]; }, 1);
        std::copy_n(y, n, to);
        level.kernels.add(x, n, to);
        check(
            "add", [&](size_t i) { return double{x[i]} + y[i]; }, 1);
        for (const auto& [name, curve, function, relative] : curves()) {
          // 1 + erf cancels below 0: an error of eps there is one of eps |x|.
          const double absolute = curve == cpu::Curve::gelu ? 1 : 0;
          level.kernels.activate(curve, x, nullptr, n, to);
          for (size_t i = 0; i < n; ++i) {
            const double want = function(x[i]);
            ASSERT_NEAR(to[i], want, kEps * (relative * std::abs(want) + absolute * std::abs(x[i])) + 1e-36)
                << name << " " << level.name << " " << x[i];
            to[i] = 7.0f;
          }
          level.kernels.activate(curve, x, y, n, to);
          for (size_t i = 0; i < n; ++i) {
            const double want = function(x[i]) * y[i];
            ASSERT_NEAR(to[i], want,
                        kEps * ((relative + 1) * std::abs(want) + absolute * std::abs(double{x[i]} * y[i])) + 1e-36)
                << name << " " << level.name << " " << x[i];
            to[i] = 7.0f;
          }
          ASSERT_EQ(out[shift + n], 7.0f) << name << " " << level.name << " " << n;
        }
        double squares = 0;
        for (size_t i = 0; i < n; ++i) squares += double{x[i]} * x[i];
        const double factor = 1 / std::sqrt(squares / static_cast<double>(std::max<size_t>(n, 1)) + 1e-5);
        if (n > 0) {
          level.kernels.rms_norm(x, y, 1e-5f, n, to);
          check(
              "rms_norm", [&](size_t i) { return x[i] * factor * y[i]; }, static_cast<double>(n + 8));
          double mean = 0, variance = 0, largest = 0;
          for (size_t i = 0; i < n; ++i)
            mean += x[i] / static_cast<double>(n), largest = std::max(largest, std::abs(double{x[i]}));
          for (size_t i = 0; i < n; ++i) variance += (x[i] - mean) * (x[i] - mean) / static_cast<double>(n);
          const double unit = 1 / std::sqrt(variance + 1e-5);
          level.kernels.layer_norm(x, y, y, 1e-5f, n, to);
          for (size_t i = 0; i < n; ++i) {
            ASSERT_NEAR(to[i], (x[i] - mean) * unit * y[i] + y[i],
                        static_cast<double>(n + 8) * kEps * std::abs(y[i]) * (1 + largest * unit) * 4)
                << "layer_norm " << level.name << " " << n;
            to[i] = 7.0f;
          }
          ASSERT_EQ(out[shift + n], 7.0f) << "layer_norm " << level.name << " " << n;
        }
        double dot = 0, bound = 0;
        for (size_t i = 0; i < n; ++i) dot += double{x[i]} * y[i], bound += std::abs(double{x[i]} * y[i]);
        ASSERT_LE(std::abs(level.kernels.dot(x, y, n) - dot), bound * kEps * static_cast<double>(n + 1));
        // softmax over [begin, n) of n + 3 scores
        for (size_t begin = 0; begin < n; begin += 5) {
          std::vector<float> s(x, x + n);
          s.resize(n + 4, 3.0f);
          s[n + 3] = 7.0f;
          double largest = -1e30, total = 0;
          for (size_t i = begin; i < n; ++i) largest = std::max(largest, double{x[i]});
          for (size_t i = begin; i < n; ++i) total += std::exp(x[i] - largest);
          level.kernels.softmax(s.data(), begin, n, n + 3);
          for (size_t i = 0; i < n + 3; ++i) {
            // exp of a float difference d errs by |d| eps relative
            const double want = i < begin || i >= n ? 0 : std::exp(x[i] - largest) / total;
            ASSERT_NEAR(s[i], want,
                        want * kEps * (static_cast<double>(n) + 8 + std::abs(x[i < n ? i : 0] - largest)) + 1e-37)
                << level.name << " " << i;
          }
          ASSERT_EQ(s[n + 3], 7.0f);
        }
        // rotation of neighbouring pairs
        const size_t even = n / 2 * 2;
        std::vector<float> cosine(n + 1), sine(n + 1), turned(x, x + n);
        turned.push_back(7.0f);
        for (size_t i = 0; i < even; i += 2) {
          cosine[i] = cosine[i + 1] = static_cast<float>(std::cos(i));
          sine[i + 1] = static_cast<float>(std::sin(i));
          sine[i] = -sine[i + 1];
        }
        level.kernels.rotate(cosine.data(), sine.data(), even, turned.data());
        for (size_t i = 0; i < even; i += 2) {
          const double size = std::abs(x[i]) + std::abs(x[i + 1]);
          ASSERT_NEAR(turned[i], x[i] * double{cosine[i]} - x[i + 1] * double{sine[i + 1]}, 2 * kEps * size);
          ASSERT_NEAR(turned[i + 1], x[i] * double{sine[i + 1]} + x[i + 1] * double{cosine[i]}, 2 * kEps * size);
        }
        ASSERT_EQ(turned[n], 7.0f);
        // and of halves
        std::copy_n(x, n, turned.begin());
        level.kernels.rotate_halves(cosine.data(), sine.data(), even, turned.data());
        for (size_t i = 0; i < even / 2; ++i) {
          const double a = x[i], b = x[i + even / 2], size = std::abs(a) + std::abs(b);
          ASSERT_NEAR(turned[i], a * cosine[i] - b * sine[i], 2 * kEps * size);
          ASSERT_NEAR(turned[i + even / 2], b * cosine[i] + a * sine[i], 2 * kEps * size);
        }
        ASSERT_EQ(turned[n], 7.0f);
      }
}

// Large arguments: no overflow to NaN.
TEST(Kernels, CurvesOfExtremes) {
  const std::vector<float> x = {-1e30f, -200.0f, -88.0f, 0.0f, 88.0f, 200.0f, 1e30f};
  for (const Level& level : all_levels()) {
    std::vector<float> out(x.size());
    for (const auto& [name, curve, function, relative] : curves()) {
      level.kernels.activate(curve, x.data(), nullptr, x.size(), out.data());
      for (size_t i = 0; i < x.size(); ++i) {
        EXPECT_FALSE(std::isnan(out[i])) << name << " " << level.name << " " << x[i];
        if (x[i] >= 0)
          EXPECT_FLOAT_EQ(out[i], x[i]) << name << " " << level.name;
        else
          EXPECT_NEAR(out[i], 0, 1e-30) << name << " " << level.name;
      }
    }
  }
}

TEST(Kernels, AttentionAgainstPlain) {
  Rng rng(7);
  struct Case {
    uint64_t heads, kv_heads, head_size, window;
  };
  for (const Case c : {Case{3, 1, 64, 0}, Case{4, 2, 8, 0}, Case{2, 2, 40, 5}, Case{6, 2, 16, 33}}) {
    ModelSpec spec;
    spec.layers = 2;
    spec.heads = c.heads;
    spec.kv_heads = c.kv_heads;
    spec.head_size = c.head_size;
    spec.blocks.resize(spec.layers);
    for (BlockSpec& block : spec.blocks) block.window = c.window;
    const size_t total = 77, kv = c.kv_heads * c.head_size, q = c.heads * c.head_size;
    std::vector<float> keys(total * kv), values(total * kv), queries(total * q);
    for (auto* all : {&keys, &values, &queries})
      for (float& v : *all) v = static_cast<float>(rng.normal());
    std::vector<double> expected(total * q);
    for (size_t t = 0; t < total; ++t)
      for (size_t h = 0; h < c.heads; ++h) {
        const size_t kh = h / (c.heads / c.kv_heads), from = c.window && t + 1 > c.window ? t + 1 - c.window : 0;
        std::vector<double> score(t + 1);
        double largest = -1e30, sum = 0;
        for (size_t s = from; s <= t; ++s) {
          for (size_t i = 0; i < c.head_size; ++i)
            score[s] += double{queries[t * q + h * c.head_size + i]} * keys[s * kv + kh * c.head_size + i];
          score[s] /= std::sqrt(static_cast<double>(c.head_size));
          largest = std::max(largest, score[s]);
        }
        for (size_t s = from; s <= t; ++s) sum += score[s] = std::exp(score[s] - largest);
        for (size_t s = from; s <= t; ++s)
          for (size_t i = 0; i < c.head_size; ++i)
            expected[t * q + h * c.head_size + i] += score[s] / sum * values[s * kv + kh * c.head_size + i];
      }
    for (const Level& level : all_levels())
      for (const int threads : {1, 3})
        for (const size_t piece : {size_t{1}, size_t{19}, total}) {
          ThreadPool pool(threads);
          Attention attention(spec, level.kernels, pool, total);
          std::vector<float> out(total * q);
          for (size_t at = 0; at < total; at += piece) {
            const size_t count = std::min(piece, total - at);
            for (size_t t = at; t < at + count; ++t)
              attention.store(1, t, keys.data() + t * kv, values.data() + t * kv);
            attention.attend(1, at, count, queries.data() + at * q, q, out.data() + at * q, q);
          }
          for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], expected[i], 2e-5) << level.name << " " << piece;
        }
  }
}

}  // namespace
}  // namespace whit
