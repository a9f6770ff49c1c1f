// The container over a whole small model: written, loaded, damaged, refused.
#include "format/container.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "base/hash.h"
#include "base/rng.h"
#include "format/gguf.h"
#include "model/spec/model.h"

namespace whit {
namespace {

const std::filesystem::path kStories = WHIT_TESTS_DIR "/data/models/stories260K.gguf";

// Plain rounding between each group's least and largest weight: enough to make files.
Packed plain_rounding(const FormatPtr& format, Shape shape, const std::vector<float>& weights) {
  const auto affine = as_affine(format);
  if (!affine) return pack_dense(format, shape, weights);
  AffineCodes codes{shape, std::vector<uint8_t>(shape.count()), {}};
  const uint64_t group = affine->group(shape.cols), groups = (shape.cols + group - 1) / group;
  codes.parameters.groups_per_row = groups;
  for (uint64_t i = 0; i < shape.rows * groups; ++i) {
    const uint64_t begin = i / groups * shape.cols + i % groups * group,
                   end = std::min(begin + group, (i / groups + 1) * shape.cols);
    const auto [low, high] = std::minmax_element(weights.begin() + static_cast<ptrdiff_t>(begin),
                                                 weights.begin() + static_cast<ptrdiff_t>(end));
    codes.parameters.scale.push_back((*high - *low) / static_cast<float>(affine->levels() - 1));
    codes.parameters.minimum.push_back(*low);
  }
  if (affine->has_columns()) codes.parameters.column.assign(shape.cols, 1.0f);
  affine->round_parameters(shape, codes.parameters);
  for (uint64_t k = 0; k < shape.count(); ++k) {
    const uint64_t g = k / shape.cols * groups + k % shape.cols / group;
    const float scale = codes.parameters.scale[g];
    const float level = scale == 0 ? 0 : std::round((weights[k] - codes.parameters.minimum[g]) / scale);
    codes.codes[k] = static_cast<uint8_t>(std::clamp(level, 0.0f, static_cast<float>(affine->levels() - 1)));
  }
  return affine->pack(codes);
}

// The model's units in `format` (stacks where it is ours), everything else copied.
ModelOutput converted(const ModelPtr& model, const FormatPtr& format) {
  ModelOutput output;
  output.metadata = model->metadata;
  output.manifest = R"({"recipe":{}})";
  std::set<std::string> done;
  const auto rows_of = [model](const std::vector<std::string>& members) {
    std::vector<float> weights;
    for (const std::string& member : members) {
      const TensorView view = model->find(member);
      std::vector<float> part(view.shape().count());
      unpack_rows(view, 0, view.rows, part);
      weights.insert(weights.end(), part.begin(), part.end());
    }
    return weights;
  };
  const auto add = [&](std::string name, Shape shape, std::vector<Member> stack,
                       const std::vector<std::string>& members) {
    output.tensors.push_back({std::move(name), shape, 2, std::move(stack), format, [=] {
                                return std::make_shared<Packed>(plain_rounding(format, shape, rows_of(members)));
                              }});
  };
  for (const UnitSpec& unit : units_of(model->spec)) {
    std::vector<Member> stack;
    uint64_t begin = 0;
    for (size_t m = 0; m < unit.members.size(); ++m) {
      done.insert(unit.members[m]);
      if (format->is_ggml()) add(unit.members[m], {unit.member_rows[m], unit.cols}, {}, {unit.members[m]});
      stack.push_back({unit.members[m], begin, unit.member_rows[m]});
      begin += unit.member_rows[m];
    }
    if (!format->is_ggml())
      add(unit.name, {unit.rows, unit.cols}, unit.members.size() > 1 ? stack : std::vector<Member>{}, unit.members);
  }
  for (const StoredTensor& tensor : model->tensors)
    if (!done.contains(tensor.name))
      output.tensors.push_back({tensor.name, tensor.shape, tensor.dimensions, {}, tensor.format, [model, &tensor] {
                                  return std::make_shared<Packed>(copy_packed({&tensor, 0, tensor.shape.rows}));
                                }});
  return output;
}

std::filesystem::path written(const ModelOutput& output, const std::string& name) {
  const std::filesystem::path path = testing::TempDir() + "/whit_" + name + ".gguf";
  AtomicFile file(path, true);
  write_model_file(file, output);
  file.commit();
  EXPECT_EQ(std::filesystem::file_size(path), model_file_bytes(output));
  return path;
}

std::vector<float> all_rows(const Model& model, const std::string& name) {
  const TensorView view = model.find(name);
  std::vector<float> rows(view.shape().count());
  unpack_rows(view, 0, view.rows, rows);
  return rows;
}

TEST(Container, CopiesOfEverySourceHoldTheSameWeightsInGgufOrder) {
  for (const std::filesystem::path& source : {kStories, std::filesystem::path(WHIT_TESTS_DIR "/data/llama_gqa"),
                                              std::filesystem::path(WHIT_TESTS_DIR "/data/llama31_rope")}) {
    SCOPED_TRACE(source.string());
    const ModelPtr model = load_model(source);
    const ModelPtr copy = load_model(written(converted(model, make_format("f32")), "copy"));
    EXPECT_EQ(copy->integrity, "ok");
    EXPECT_EQ(copy->metadata.string("general.architecture"), "llama");
    EXPECT_EQ(copy->metadata.string("whit.manifest"), R"({"recipe":{}})");
    EXPECT_EQ(copy->spec.weights(), model->spec.weights());
    EXPECT_EQ(copy->spec.rotaries[0].frequency_divisors, model->spec.rotaries[0].frequency_divisors);
    for (const StoredTensor& tensor : copy->tensors)
      EXPECT_EQ(all_rows(*copy, tensor.name), all_rows(*model, tensor.name)) << tensor.name;
    if (!copy->spec.tied_output) EXPECT_EQ(all_rows(*copy, "output.weight"), all_rows(*model, "output.weight"));
  }
}

TEST(Container, OurFilesLoadWithStacksMembersAndTheTokenizer) {
  const ModelPtr model = load_model(kStories);
  for (const Json& options : {Json{{"bits", 3}}, Json{{"bits", 4}, {"columns", true}},
                              Json{{"bits", 8}, {"group", 16}, {"zero", "integer"}}}) {
    const FormatPtr format = make_format("grid", options);
    SCOPED_TRACE(format->label());
    const ModelOutput output = converted(model, format);
    ASSERT_TRUE(output.is_ours());
    const std::filesystem::path path = written(output, "ours");
    const ModelPtr ours = load_model(path);
    EXPECT_EQ(ours->weights, "whit");
    EXPECT_EQ(ours->integrity, "ok");
    EXPECT_EQ(load_model(path, {.verify = false})->integrity, "not verified");
    EXPECT_EQ(load_model(path, {.verify = false})->content_hash, ours->content_hash);
    EXPECT_EQ(ours->metadata.string("general.architecture"), "llama");
    EXPECT_EQ(ours->spec.weights(), model->spec.weights());
    for (const KeyValue& item : model->metadata.all()) {
      if (item.key == "general.file_type" || item.key == "general.quantization_version") continue;
      ASSERT_TRUE(ours->metadata.has(item.key)) << item.key;
      EXPECT_TRUE(*ours->metadata.find(item.key) == item.value) << item.key;
    }
    // The stack and its members are found; a member's rows are the stack's.
    const TensorView stack = ours->find("blk.2.attn_qkv.weight"), key = ours->find("blk.2.attn_k.weight");
    ASSERT_TRUE(stack && key);
    EXPECT_EQ(stack.tensor, key.tensor);
    EXPECT_EQ(key.begin, 64u);
    EXPECT_EQ(key.rows, 32u);
    const std::vector<float> whole = all_rows(*ours, "blk.2.attn_qkv.weight"),
                             part = all_rows(*ours, "blk.2.attn_k.weight");
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 64 * 64));
    const StoredTensor cut = make_stored("cut", std::make_shared<Packed>(copy_packed(key)));
    std::vector<float> cut_rows(part.size());
    unpack_rows({&cut, 0, 32}, 0, 32, cut_rows);
    EXPECT_EQ(cut_rows, part);
    // A second generation: made from ours, byte for byte the same.
    const std::filesystem::path again = written(output, "again");
    EXPECT_EQ(read_file(again), read_file(path));
    // Other programs see an architecture that they do not know, and plain tensors.
    const GgufFile gguf = GgufFile::open(path);
    EXPECT_EQ(gguf.metadata.string("general.architecture"), "whit");
    EXPECT_EQ(gguf.alignment, 64u);
    EXPECT_NE(gguf.find("blk.2.attn_qkv.weight.whit.codes"), nullptr);
    EXPECT_EQ(gguf.metadata.find("tokenizer.ggml.tokens"), nullptr);
  }
}

// A file of version 1 of the container, made once from stories260K in grid3-g32-s8: every later reader must read it.
TEST(Container, GoldenFileOfVersion1) {
  const ModelPtr golden = load_model(WHIT_TESTS_DIR "/data/golden/stories260K-grid3-v1.gguf");
  EXPECT_EQ(golden->integrity, "ok");
  EXPECT_EQ(golden->find("blk.4.ffn_gate_up.weight").tensor->format->label(), "grid3-g32-s8");
  EXPECT_EQ(golden->metadata.array<std::string>("tokenizer.ggml.tokens")->size(), 512u);
  Hasher hasher;
  for (const StoredTensor& tensor : golden->tensors) {
    hasher.add(tensor.name);
    const std::vector<float> rows = all_rows(*golden, tensor.name);
    hasher.add(std::as_bytes(std::span(rows)));
  }
  EXPECT_EQ(hasher.hex(), "3450d1f05d06897f36b70f19b1c0cb03");
}

TEST(Container, GgmlTypesMakeOrdinaryFiles) {
  const ModelPtr model = load_model(kStories);
  // The rows of 172 of this model do not fit blocks of 32: an error before anything is read, with the tensor's name.
  try {
    model_file_bytes(converted(model, make_format("q4_0")));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    EXPECT_EQ(error.where(), "blk.0.ffn_down.weight");
  }
  const ModelPtr fixture = load_model(WHIT_TESTS_DIR "/data/llama_gqa");
  for (const char* name : {"q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "f16"}) {
    const std::filesystem::path path = written(converted(fixture, make_format(name)), "ordinary");
    const GgufFile gguf = GgufFile::open(path);
    EXPECT_EQ(gguf.metadata.string("general.architecture"), "llama");
    EXPECT_EQ(gguf.alignment, 32u);
    EXPECT_EQ(gguf.metadata.has("general.quantization_version"), std::string(name) != "f16");
    EXPECT_EQ(load_model(path)->integrity, "ok");
  }
}

// ---- damage ----

class Damage : public testing::Test {
 protected:
  void open(const FormatPtr& format) {
    bytes_ = read_file(written(converted(load_model(kStories), format), "damage"));
    gguf_ = GgufFile::parse(span(), "f");
  }
  std::span<const std::byte> span() const { return std::as_bytes(std::span(bytes_.data(), bytes_.size())); }
  // Where the damage of bytes_ is found, or "" when it is not.
  std::string found_at(ErrorKind* kind = nullptr) const {
    try {
      const GgufFile gguf = GgufFile::parse(span(), "f");
      verify_checksums(gguf, span(), "f");
    } catch (const Error& error) {
      if (kind) *kind = error.kind();
      return error.where();
    }
    return "";
  }
  std::string bytes_;
  GgufFile gguf_;
};

TEST_F(Damage, EveryByteOfTheHeaderIsWatched) {
  Rng rng(1);
  for (const FormatPtr& format : {make_format("grid"), make_format("f32")}) {
    open(format);
    ASSERT_EQ(found_at(), "");
    const uint64_t header = gguf_.data_start;
    for (uint64_t i = 0; i < header; i += format->is_ggml() ? 7 : 1) {
      const char bit = static_cast<char>(1 << rng.below(8));
      bytes_[i] ^= bit;
      ErrorKind kind = ErrorKind::internal;
      const std::string where = found_at(&kind);
      bytes_[i] ^= bit;
      ASSERT_EQ(where.substr(0, 9), "f: header") << "byte " << i;
      ASSERT_TRUE(kind == ErrorKind::integrity || kind == ErrorKind::input) << "byte " << i;
    }
  }
}

TEST_F(Damage, EveryTensorIsWatchedAndNamed) {
  Rng rng(2);
  for (const FormatPtr& format : {make_format("grid"), make_format("grid", {{"columns", true}}), make_format("f32")}) {
    open(format);
    ASSERT_EQ(found_at(), "");
    std::vector<std::tuple<std::string, uint64_t, uint64_t>> places;
    for (size_t i = 0; i < gguf_.tensors.size(); ++i) {
      const uint64_t begin = gguf_.data_start + gguf_.tensors[i].offset;
      const uint64_t end =
          i + 1 < gguf_.tensors.size() ? gguf_.data_start + gguf_.tensors[i + 1].offset : bytes_.size();
      places.emplace_back(gguf_.tensors[i].name, begin, end);
    }
    for (const auto& [name, begin, end] : places)
      for (const uint64_t at :
           {begin, begin + rng.below(end - begin), end - 1}) {  // the last byte is padding as often as not
        const char bit = static_cast<char>(1 << rng.below(8));
        bytes_[at] ^= bit;
        ErrorKind kind = ErrorKind::internal;
        ASSERT_EQ(found_at(&kind), "f: tensor " + name) << at;
        ASSERT_EQ(kind, ErrorKind::integrity);
        bytes_[at] ^= bit;
      }
  }
}

// Damage that breaks the header's structure is an integrity error of loading too, not a foreign file.
TEST_F(Damage, ABrokenStructureIsDamageOfTheHeader) {
  open(make_format("grid"));
  const std::filesystem::path path = testing::TempDir() + "/whit_structure.gguf";
  const std::string right = bytes_;
  for (const size_t at : {size_t{5}, size_t{8}, size_t{16}, size_t{27}, gguf_.header_bytes - 1}) {
    bytes_ = right;
    bytes_[at] ^= '\x40';
    write_file(path, bytes_, true);
    try {
      load_model(path);
      ADD_FAILURE() << at;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::integrity) << error.what();
      EXPECT_NE(error.where().find("header"), std::string::npos) << error.what();
    }
  }
  write_file(path, right.substr(0, right.size() / 2), true);
  EXPECT_THROW(load_model(path), Error);
  std::filesystem::remove(path);
}

TEST_F(Damage, TheEndIsWatched) {
  open(make_format("grid"));
  bytes_.push_back('\0');
  EXPECT_EQ(found_at(), "f: end");
  bytes_.resize(bytes_.size() - 2);
  EXPECT_NE(found_at(), "");
  for (const size_t size : {bytes_.size() / 2, bytes_.size() - 64, size_t{100}}) {
    bytes_.resize(size);
    EXPECT_NE(found_at(), "");
  }
}

// A whit. key without checksums, or with checksums of another type, is damage and never "absent".
TEST_F(Damage, MissingChecksumsAreDamage) {
  const auto with = [&](const std::function<void(KeyValues&)>& change, bool checksums) {
    KeyValues metadata;
    metadata.set("general.architecture", std::string("llama"));
    change(metadata);
    const std::filesystem::path path = testing::TempDir() + "/whit_missing.gguf";
    AtomicFile file(path, true);
    write_gguf(file, metadata, {}, checksums, 32);
    file.commit();
    bytes_ = read_file(path);
    ErrorKind kind = ErrorKind::internal;
    const std::string where = found_at(&kind);
    return std::pair(where, kind);
  };
  EXPECT_EQ(with([](KeyValues&) {}, false).first, "");
  EXPECT_EQ(with([](KeyValues&) {}, true).first, "");
  // The writer refuses to make such files; they are made by renaming a key of the same length.
  KeyValues metadata;
  metadata.set("xhit.checksum.header", uint32_t{1});
  metadata.set("xhit.manifest", std::string("m"));
  const std::filesystem::path path = testing::TempDir() + "/whit_missing.gguf";
  {
    AtomicFile file(path, true);
    write_gguf(file, metadata, {}, false, 32);
    file.commit();
  }
  for (const char* key : {"xhit.checksum.header", "xhit.manifest"}) {
    bytes_ = read_file(path);
    bytes_[bytes_.find(key)] = 'w';
    ErrorKind kind = ErrorKind::internal;
    EXPECT_EQ(found_at(&kind), "f: header") << key;
    EXPECT_EQ(kind, ErrorKind::integrity);
  }
}

// The model's units in F32, turned on both sides.
ModelOutput rotated_output(const ModelPtr& model, uint64_t seed) {
  ModelOutput output = converted(model, make_format("grid"));  // stacks
  for (OutputTensor& tensor : output.tensors) {
    if (tensor.dimensions != 2) continue;
    UnitRotation rotation{make_rotation(tensor.shape.cols, seed, seed, "i"), {}};
    if (tensor.name != "token_embd.weight") {
      std::vector<Member> members = tensor.members;
      if (members.empty()) members.push_back({tensor.name, 0, tensor.shape.rows});
      for (const Member& member : members)
        rotation.outputs.push_back({member.begin, make_rotation(member.count, seed + 1, seed, "o")});
    }
    tensor.rotation = rotation;
    tensor.format = make_format("f32");
    tensor.load = [=] {
      std::vector<float> weights;
      for (const std::string& name : [&] {
             std::vector<std::string> names;
             for (const Member& member : tensor.members) names.push_back(member.name);
             if (names.empty()) names.push_back(tensor.name);
             return names;
           }()) {
        const std::vector<float> part = all_rows(*model, name);
        weights.insert(weights.end(), part.begin(), part.end());
      }
      rotation.rotate_inputs(weights.data(), tensor.shape.rows, tensor.shape.cols);
      rotation.rotate_outputs(weights.data(), tensor.shape.cols, 0, tensor.shape.cols);
      auto packed = std::make_shared<Packed>(pack_dense(make_format("f32"), tensor.shape, weights));
      packed->rotation = rotation;
      return packed;
    };
  }
  return output;
}

TEST(Container, RotatedUnitsOfGgmlTypesMakeAFileOfOurs) {
  const ModelPtr model = load_model(kStories);
  const ModelOutput output = rotated_output(model, 7);
  ASSERT_TRUE(output.is_ours());
  const std::filesystem::path path = written(output, "rotated");
  const GgufFile gguf = GgufFile::open(path);
  EXPECT_EQ(gguf.metadata.string("general.architecture"), "whit");
  EXPECT_EQ(gguf.metadata.unsigned_integer("whit.version"), 2u);
  // 64 and 32 are powers of two, 172 = 4 x 43: one small factor in the file.
  EXPECT_EQ(gguf.find("whit.rotation.factors")->data.size(), 43u * 43 * 4);
  const ModelPtr loaded = load_model(path);
  EXPECT_EQ(loaded->integrity, "ok");
  for (const UnitSpec& unit : units_of(model->spec))
    for (const std::string& member : unit.members) {
      const std::vector<float> expected = all_rows(*model, member), got = all_rows(*loaded, member);
      for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 3e-6) << member;
      EXPECT_TRUE(loaded->find(member).tensor->rotation) << member;
    }
  // Equal rotations are one object after loading.
  EXPECT_EQ(loaded->find("blk.0.attn_q.weight").tensor->rotation.inputs,
            loaded->find("blk.3.ffn_up.weight").tensor->rotation.inputs);
}

TEST(Container, HostileRotationsAreInputErrors) {
  const GgufFile gguf = GgufFile::open(written(rotated_output(load_model(kStories), 7), "hostile_rotation"));
  ASSERT_NO_THROW(stored_tensors(gguf));
  const auto refused = [&](const char* key, const std::string& from, const std::string& to) {
    std::string text = gguf.metadata.string(key);
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from << " in " << text.substr(0, 300);
    GgufFile hostile = gguf;
    hostile.metadata.set(key, text.replace(at, from.size(), to));
    try {
      stored_tensors(hostile);
      ADD_FAILURE() << from << " -> " << to << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input) << error.what();
    }
  };
  const char* table = "whit.rotations";
  refused(table, "{", "");
  refused(table, "\"factors\":[43]", "\"factors\":[]");
  refused(table, "\"factors\":[43]", "\"factors\":[44]");
  refused(table, "\"factors\":[43]", "\"factors\":[41]");
  refused(table, "\"factors\":[43]", "\"factors\":[43,43]");
  refused(table, "\"factors\":[43]", "\"factors\":[-43]");
  refused(table, "\"factors\":[43]", "\"factors\":[18446744073709551615]");
  refused(table, "\"factors\":[43]", "\"factors\":{}");
  refused(table, "\"size\":64", "\"size\":0");
  refused(table, "\"size\":64", "\"size\":128");
  refused(table, "\"size\":64", "\"size\":43");
  refused(table, "\"size\":64", "\"size\":9223372036854775808");
  refused(table, "\"size\":172", "\"size\":257");
  refused(table, "\"seed\":7", "\"seed\":-7");
  refused(table, "\"seed\":7", "\"s\":7");
  refused(table, "\"factor\":0", "\"factor\":1");
  refused(table, "\"factor\":0", "\"f\":1");
  const char* units = "whit.units";
  refused(units, "\"rotation\":{", "\"rotation\":[{},{");
  refused(units, "\"inputs\":0", "\"inputs\":99");
  refused(units, "\"inputs\":0", "\"inputs\":-1");
  refused(units, "\"inputs\":0", "\"inputs\":[0]");
  refused(units, "\"outputs\":[[0,", "\"outputs\":[[1,");
  refused(units, "\"outputs\":[[0,", "\"outputs\":[[18446744073709551615,");
  refused(units, "\"outputs\":[[0,", "\"outputs\":[[");
  refused(units, "\"outputs\":[[0,", "\"outputs\":[[0,0],[0,");
  refused(units, "\"outputs\":[[0,1],[64,2],[96,2]]", "\"outputs\":[[0,1],[64,1]]");  // across two members
  // A factor that is not orthogonal, or not a number, although its bytes have a right checksum.
  for (const float value : {2.0f, NAN, INFINITY}) {
    GgufFile hostile = gguf;
    std::vector<std::byte> bytes;
    for (GgufTensor& tensor : hostile.tensors)
      if (tensor.name == "whit.rotation.factors") {
        bytes.assign(tensor.data.begin(), tensor.data.end());
        std::memcpy(bytes.data() + 400, &value, sizeof(value));
        tensor.data = bytes;
      }
    EXPECT_THROW(stored_tensors(hostile), Error) << value;
  }
}

// What a header of ours may not say although its checksum is right (a hostile file has a right checksum too).
TEST(Container, HostileUnitsAreInputErrors) {
  const ModelOutput output = converted(load_model(kStories), make_format("grid"));
  const GgufFile gguf = GgufFile::open(written(output, "hostile"));
  const std::string units = gguf.metadata.string("whit.units");
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = units;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return at == std::string::npos ? text : text.replace(at, from.size(), to);
  };
  const std::vector<std::string> cases = {
      "",
      "{",
      "{}",
      "3",
      "[3]",
      std::string(1000, '['),
      replaced("\"grid\"", "\"gird\""),
      replaced("\"bits\":4", "\"bits\":7"),
      replaced("\"bits\":4", "\"bits\":5"),
      replaced("[512,64]", "[512,65]"),
      replaced("[512,64]", "[0,64]"),
      replaced("[512,64]", "[-1,64]"),
      replaced("[512,64]", "[4294967296,4294967296]"),
      replaced("[512,64]", "[512]"),
      replaced("\"codes\"", "\"scales\""),
      replaced("\"name\":\"token_embd.weight\"", "\"name\":\"blk.0.attn_output.weight\""),
      replaced("\"begin\":64", "\"begin\":65"),
      replaced("\"count\":64", "\"count\":18446744073709551615"),
      replaced("\"members\":[]", "\"members\":{}"),
      replaced("\"name\":\"token_embd.weight\"", "\"name\":3"),
  };
  for (const std::string& text : cases) {
    SCOPED_TRACE(text.substr(0, 200));
    GgufFile hostile = gguf;
    hostile.metadata.set("whit.units", text);
    try {
      stored_tensors(hostile);
      ADD_FAILURE() << "was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input) << error.what();
    }
  }
  for (const uint64_t raw : {uint64_t{1}, uint64_t{65} << 20, UINT64_MAX}) {
    GgufFile hostile = gguf;
    hostile.metadata.set("whit.tokenizer.raw_bytes", raw);
    EXPECT_THROW(model_metadata(hostile), Error);
  }
}

}  // namespace
}  // namespace whit
