#include "format/binary_groups.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/half.h"
#include "base/rng.h"

namespace whit {
namespace {

std::shared_ptr<const BinaryGroupsFormat> binary(const Json& options) {
  return as_binary_groups(make_format("binary_groups", options));
}

std::vector<Json> all_variants() {
  std::vector<Json> variants;
  for (const int regions : {1, 2, 3})
    for (const int residual : {0, 8})
      for (const auto& [n, m] : std::vector<std::pair<int, int>>{{0, 0}, {4, 8}, {2, 4}, {3, 16}})
        for (const int block : {0, 64, 128})
          for (const int parameters : {0, 1, 2})
            variants.push_back({{"regions", regions},
                                {"residual", residual},
                                {"n", n},
                                {"m", m},
                                {"block", block},
                                {"means", parameters == 1},
                                {"columns", parameters == 2}});
  return variants;
}

// Entries that a packer may be given: random but for what the layout fixes.
BinaryGroups random_groups(const BinaryGroupsFormat& format, Shape shape, uint64_t seed) {
  Rng rng(seed);
  const BinaryGroupsOptions options = format.binary_options();
  const BinaryLayout at = format.layout(shape.cols);
  BinaryGroups groups = format.empty(shape);
  uint64_t left = options.residual > 0 ? at.residual_columns : shape.cols;
  for (uint64_t j = 0; at.salient && j < shape.cols; ++j)
    if (left > 0 && rng.uniform() < 0.1) groups.salient[j] = 1, --left;
  if (options.m > 0) {
    groups.mask.assign(shape.count(), 0);
    for (uint64_t i = 0; i < shape.rows; ++i)
      for (uint64_t j = 0; j < shape.cols; j += static_cast<uint64_t>(options.m)) {
        const uint64_t inputs = std::min<uint64_t>(options.m, shape.cols - j);
        for (unsigned kept = 0; kept < format.pattern()->kept_of(inputs);) {
          uint8_t& bit = groups.mask[i * shape.cols + j + rng.below(inputs)];
          kept += !bit;
          bit = 1;
        }
      }
  }
  for (uint64_t k = 0; k < shape.count(); ++k) {
    if (!groups.mask.empty() && !groups.mask[k]) continue;
    const bool salient = groups.salient[k % shape.cols];
    groups.sign[k] = rng.below(2) != 0;
    if (salient) groups.second[k] = rng.below(2) != 0;
    if (!salient || options.residual > 0) groups.region[k] = static_cast<uint8_t>(rng.below(options.regions));
  }
  const auto fill = [&](std::vector<float>& values, double size) {
    for (float& value : values) value = half_to_float(float_to_half(static_cast<float>(size * rng.normal())));
  };
  fill(groups.scale, 0.1);
  fill(groups.mean, 0.01);
  fill(groups.column, 1);
  fill(groups.column_two, 1);
  for (uint64_t k = 0; k < groups.column_two.size(); ++k)
    if (!groups.salient[k / at.column_slots]) groups.column_two[k] = 0;
  return groups;
}

TEST(BinaryGroups, RoundTripsOfEveryVariant) {
  std::set<std::string> labels;
  for (const Json& options : all_variants()) {
    const auto format = binary(options);
    EXPECT_TRUE(labels.insert(format->label()).second) << format->label();
    EXPECT_EQ(format_to_json(*make_format_from(format_to_json(*format), "test")), format_to_json(*format));
    for (const Shape shape : {Shape{5, 172}, Shape{3, 65}, Shape{2, 256}, Shape{1, 1}, Shape{4, 7}, Shape{2, 576}}) {
      SCOPED_TRACE(format->label() + " cols " + std::to_string(shape.cols));
      const BinaryGroups groups = random_groups(*format, shape, 7);
      const Packed packed = format->pack(groups);
      const auto specs = format->parts(shape);
      ASSERT_EQ(packed.parts.size(), specs.size());
      for (size_t p = 0; p < specs.size(); ++p) {
        ASSERT_GT(specs[p].bytes, 0u) << specs[p].suffix;
        ASSERT_EQ(packed.parts[p].size(), specs[p].bytes);
        ASSERT_EQ(specs[p].bytes, specs[p].count * (specs[p].type == GgmlType::f16 ? 2 : 1));
        if (specs[p].row_bytes != 0) ASSERT_EQ(specs[p].bytes, specs[p].row_bytes * shape.rows);
      }
      const BinaryGroups back = format->unpack_groups(packed);
      ASSERT_EQ(back.mask, groups.mask);
      ASSERT_EQ(back.salient, groups.salient);
      ASSERT_EQ(back.sign, groups.sign);
      ASSERT_EQ(back.second, groups.second);
      ASSERT_EQ(back.region, groups.region);
      ASSERT_EQ(back.scale, groups.scale);
      ASSERT_EQ(back.mean, groups.mean);
      ASSERT_EQ(back.column, groups.column);
      ASSERT_EQ(back.column_two, groups.column_two);
      ASSERT_EQ(format->pack(back).parts, packed.parts);

      const StoredTensor stored = make_stored("t", std::make_shared<Packed>(packed));
      std::vector<float> rows(shape.count());
      unpack_rows({&stored, 0, shape.rows}, 0, shape.rows, rows);
      const BinaryLayout at = format->layout(shape.cols);
      for (uint64_t i = 0; i < shape.rows; ++i)
        for (uint64_t j = 0; j < shape.cols; ++j)
          ASSERT_EQ(rows[i * shape.cols + j], format->value(groups, at, i, j)) << i << " " << j;
      if (shape.rows > 1) {  // a member's rows alone
        const Packed cut = copy_packed({&stored, 1, shape.rows - 1});
        std::vector<float> cut_rows((shape.rows - 1) * shape.cols);
        format->unpack(cut.shape, cut.views(), 0, cut.shape.rows, cut_rows.data());
        ASSERT_TRUE(std::equal(cut_rows.begin(), cut_rows.end(), rows.begin() + static_cast<ptrdiff_t>(shape.cols)));
      }
    }
  }
}

std::vector<int> bytes_of(const std::vector<std::byte>& bytes) {
  std::vector<int> values;
  for (const std::byte b : bytes) values.push_back(std::to_integer<int>(b));
  return values;
}

// The layout of format/binary_groups.h by hand: what is written once must be readable for ever.
TEST(BinaryGroups, ExactBytes) {
  const auto format = binary({{"regions", 3}, {"block", 8}, {"n", 2}, {"m", 4}});
  BinaryGroups groups = format->empty({1, 10});
  // Groups of 4 keep 2, the rest of 2 keeps 1. Column 5 is salient.
  groups.mask = {1, 1, 0, 0, 0, 1, 0, 1, 0, 1};
  groups.salient[5] = 1;
  groups.sign = {1, 0, 0, 0, 0, 1, 0, 1, 0, 1};
  groups.second[5] = 1;
  groups.region = {0, 1, 0, 0, 0, 0, 0, 2, 0, 1};
  // Two blocks of 3 regions and the salient pair; 3 regions and the salient mean.
  groups.scale = {1, 2, 4, 8, 0.5f, 1, 3, 1, 1, 1};
  groups.mean = {0.25f, 0, -1, 0.125f, 0, -0.5f, 0, 0};
  const Packed packed = format->pack(groups);
  const auto specs = format->parts({1, 10});
  std::vector<std::string> names;
  for (const PartSpec& spec : specs) names.push_back(spec.suffix);
  EXPECT_EQ(names, (std::vector<std::string>{"mask", "signs", "marks", "columns", "scales", "means"}));
  // Masks 0011 (0 of 6, three bits), 1010 (4 of 6), 10 (1 of 2, one bit): 0 | 4 << 3 | 1 << 6.
  EXPECT_EQ(bytes_of(packed.parts[0]), (std::vector<int>{0x60}));
  EXPECT_EQ(bytes_of(packed.parts[1]), (std::vector<int>{0b11101}));
  // Marks 0, 1, second sign + = 1, 2, 1 in base 3, lowest first: 0 + 3 + 9 + 54 + 81.
  EXPECT_EQ(bytes_of(packed.parts[2]), (std::vector<int>{147}));
  EXPECT_EQ(bytes_of(packed.parts[3]), (std::vector<int>{0x20, 0x00}));
  EXPECT_EQ(packed.parts[4].size(), 20u);
  EXPECT_EQ(packed.parts[5].size(), 16u);
  std::vector<float> row(10);
  format->unpack({1, 10}, packed.views(), 0, 1, row.data());
  EXPECT_EQ(row, (std::vector<float>{1.25f, -2, 0, 0, 0, 8.625f, 0, 3, 0, 2.5f}));
  EXPECT_DOUBLE_EQ(format->paper_bits({1, 10}, packed.views()), 0.5 * 1.1);
}

// With their own plane of second signs, salient weights have regions as well; with columns, factors per column.
TEST(BinaryGroups, ColumnGroupBitmapByHand) {
  const auto format = binary({{"regions", 2}, {"block", 8}, {"residual", 1}, {"columns", true}});
  BinaryGroups groups = format->empty({1, 3});
  groups.salient = {0, 1, 0};
  groups.sign = {1, 0, 0};
  groups.second = {0, 1, 0};
  groups.region = {0, 1, 1};
  groups.scale = {1, 2, 10, 20, 4, 0.5f};  // regions; salient: two of region 0, two of region 1
  groups.column = {3, 9, 9, 0.5f, 9, 2};   // [cols, regions]
  groups.column_two = {0, 0, 7, 8, 0, 0};
  const Packed packed = format->pack(groups);
  std::vector<float> row(3);
  format->unpack({1, 3}, packed.views(), 0, 1, row.data());
  EXPECT_EQ(row, (std::vector<float>{3, -4 * 0.5f + 0.5f * 8, -4}));
}

// The sums of the papers' cards: BiLLM 2 + 1 / rows + 112 / 128, the salient planes instead of c / m for free; STBLLM
// at 4:8 with fixed-length fields, but marks in base 3.
TEST(BinaryGroups, StoredBitsPerWeight) {
  const Shape shape{1024, 1280};
  EXPECT_DOUBLE_EQ(binary({{"regions", 2}})->bits_per_weight(shape), 2 + 1.0 / 1024 + 112.0 / 128);
  EXPECT_DOUBLE_EQ(binary({{"regions", 2}, {"means", false}})->bits_per_weight(shape), 2 + 1.0 / 1024 + 64.0 / 128);
  EXPECT_DOUBLE_EQ(binary({{"regions", 3}})->bits_per_weight(shape), 2.6 + 1.0 / 1024 + 144.0 / 128);
  EXPECT_DOUBLE_EQ(binary({{"regions", 3}, {"n", 4}, {"m", 8}})->bits_per_weight(shape),
                   7.0 / 8 + 0.5 * 2.6 + 1.0 / 1024 + 144.0 / 128);
  EXPECT_DOUBLE_EQ(binary({{"regions", 3}, {"n", 6}, {"m", 8}})->bits_per_weight(shape),
                   5.0 / 8 + 0.75 * 2.6 + 1.0 / 1024 + 144.0 / 128);
  // ARB-LLM-RC: 2 + 33 / rows + 64 / 128.
  EXPECT_DOUBLE_EQ(binary({{"regions", 2}, {"columns", true}})->bits_per_weight(shape), 2 + 33.0 / 1024 + 64.0 / 128);
  // The lower bound: mask, one sign, a scale per row.
  EXPECT_DOUBLE_EQ(binary({{"regions", 1}, {"block", 0}, {"n", 4}, {"m", 8}, {"means", false}})->bits_per_weight(shape),
                   7.0 / 8 + 0.5 + 16.0 / 1280);
}

// Bytes that no packer writes stay in bounds and decode to something.
TEST(BinaryGroups, SurvivesAnyBytes) {
  for (const Json& options : all_variants()) {
    const auto format = binary(options);
    for (const Shape shape : {Shape{2, 172}, Shape{1, 7}}) {
      for (const int fill : {0xff, 0x77}) {
        Packed packed{format, shape, {}};
        for (const PartSpec& spec : format->parts(shape))
          packed.parts.emplace_back(spec.bytes, static_cast<std::byte>(fill));
        std::vector<float> rows(shape.count());
        format->unpack(shape, packed.views(), 0, shape.rows, rows.data());
        const BinaryGroups groups = format->unpack_groups(packed);
        for (const uint8_t region : groups.region) ASSERT_LT(region, format->binary_options().regions);
        // Columns beyond the room for second signs have none: nothing was read for them.
        const BinaryLayout at = format->layout(shape.cols);
        uint64_t rank = 0;
        for (uint64_t j = 0; at.residual >= 0 && j < shape.cols; ++j)
          if (groups.salient[j] && rank++ >= at.residual_columns) ASSERT_EQ(groups.second[j], 0);
      }
    }
  }
}

TEST(BinaryGroups, OptionsThatCannotBe) {
  for (const Json& options : {Json{{"regions", 0}}, Json{{"regions", 4}}, Json{{"block", 12}}, Json{{"n", 3}},
                              Json{{"m", 8}}, Json{{"n", 5}, {"m", 4}}, Json{{"n", 4}, {"m", 64}},
                              Json{{"residual", 136}}, Json{{"columns", true}, {"means", true}}, Json{{"signs", 1}}}) {
    try {
      make_format("binary_groups", options);
      ADD_FAILURE() << options.dump();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage) << options.dump();
    }
  }
  EXPECT_EQ(binary({{"n", 8}, {"m", 8}})->label(), binary(Json::object())->label());
  EXPECT_THROW(binary(Json::object())->check_shape({0, 5}, "blk.0.test.weight"), Error);
}

TEST(BinaryGroups, PackRefusesWhatItsOptionsCannotSay) {
  const auto masked = binary({{"n", 1}, {"m", 2}});
  BinaryGroups groups = masked->empty({1, 4});
  groups.mask = {1, 1, 1, 0};
  EXPECT_THROW(masked->pack(groups), Error);
  groups.mask = {0, 1, 1, 0};
  groups.region[1] = 2;
  EXPECT_THROW(masked->pack(groups), Error);
  const auto residual = binary({{"block", 8}, {"residual", 1}});
  groups = residual->empty({1, 8});
  groups.salient[0] = groups.salient[1] = 1;
  EXPECT_THROW(residual->pack(groups), Error);
}

}  // namespace
}  // namespace whit
