#include "format/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"

namespace whit {
namespace {

std::string file_of(const std::string& header, size_t data) {
  std::string bytes(8, '\0');
  const uint64_t size = header.size();
  std::memcpy(bytes.data(), &size, 8);
  return bytes + header + std::string(data, '\1');
}

std::span<const std::byte> span_of(const std::string& bytes) {
  return std::as_bytes(std::span(bytes.data(), bytes.size()));
}

TEST(Safetensors, Reads) {
  const std::string bytes = file_of(
      R"({"b":{"dtype":"F32","shape":[2,1],"data_offsets":[2,10]},"a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},)"
      R"("e":{"dtype":"I64","shape":[0,4],"data_offsets":[2,2]},"__metadata__":{"format":"pt"}}   )",
      10);
  const SafetensorsFile file = SafetensorsFile::parse(span_of(bytes), "test");
  EXPECT_EQ(file.tensors.size(), 3u);
  EXPECT_EQ(file.find("b")->data.size(), 8u);
  EXPECT_EQ(file.find("b")->shape, (std::vector<uint64_t>{2, 1}));
  EXPECT_EQ(file.find("a")->dtype, "BF16");
  EXPECT_EQ(file.find("x"), nullptr);
  EXPECT_EQ(file.metadata.at("format"), "pt");
  EXPECT_TRUE(SafetensorsFile::parse(span_of(file_of("{}", 0)), "test").tensors.empty());
}

TEST(Safetensors, HostileFilesAreInputErrors) {
  const auto one = [](const std::string& fields, size_t data = 8) {
    return file_of(R"({"a":{)" + fields + "}}", data);
  };
  std::string long_header = file_of("{}", 0);
  long_header[7] = 0x40;
  std::string deep = "{\"a\":";
  deep += std::string(100000, '[') + std::string(100000, ']') + "}";
  const std::vector<std::pair<std::string, const char*>> cases = {
      {"", "too short"},
      {std::string(7, '\0'), "too short"},
      {long_header, "larger than is possible"},
      {file_of("[]", 0), "no JSON object"},
      {file_of(" {}", 0), "no JSON object"},
      {file_of("{", 0), "not valid JSON"},
      {file_of("{\"\xff\":1}", 0), "not valid JSON"},
      {file_of(deep, 0), "nested too deeply"},
      {file_of("{}", 1), "belong to no tensor"},
      {one(R"("dtype":"F32","shape":[2])"), "lacks data_offsets"},
      {one(R"("shape":[2],"data_offsets":[0,8])"), "lacks dtype"},
      {one(R"("dtype":"F32","data_offsets":[0,8])"), "lacks shape"},
      {file_of(R"({"a":3})", 0), "lacks dtype"},
      {one(R"("dtype":"F33","shape":[2],"data_offsets":[0,8])"), "unknown dtype"},
      {one(R"("dtype":3,"shape":[2],"data_offsets":[0,8])"), "no string"},
      {one(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), "no non-negative integer"},
      {one(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), "no non-negative integer"},
      {one(R"("dtype":"F32","shape":2,"data_offsets":[0,8])"), "no array"},
      {one(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), "disagree"},
      {one(R"("dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8])"), "overflows"},
      {one(R"("dtype":"F4","shape":[3],"data_offsets":[0,8])"), "end on a byte"},
      {one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,9])"), "no pair"},
      {one(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), "outside the file"},
      {one(R"("dtype":"F32","shape":[4],"data_offsets":[0,16])"), "outside the file"},
      {one(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"), "one after another"},
      {one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])"), "belong to no tensor"},
      {file_of(
           R"({"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
           8),
       "one after another"},
      {file_of(
           R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
           8),
       "there twice"},
      {file_of(R"({"__metadata__":3})", 0), "no object"},
      {file_of(R"({"__metadata__":{"a":3}})", 0), "no string"},
  };
  for (const auto& [bytes, says] : cases) {
    SCOPED_TRACE(bytes.substr(0, 120));
    try {
      SafetensorsFile::parse(span_of(bytes), "hostile.safetensors");
      ADD_FAILURE() << "was accepted, wanted: " << says;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
      EXPECT_NE(error.where().find("hostile.safetensors"), std::string::npos);
    }
  }
}

TEST(Safetensors, EveryTruncationOfARealFileIsAnError) {
  const auto mapped = MappedFile::open(WHIT_TESTS_DIR "/data/llama_gqa/model.safetensors");
  for (size_t size = 0; size < mapped->bytes().size(); size += size < 4096 ? 1 : 997)
    EXPECT_THROW(SafetensorsFile::parse(mapped->bytes().first(size), "cut"), Error) << size;
}

TEST(Safetensors, WriterRoundTrip) {
  const std::filesystem::path path = testing::TempDir() + "/whit_safetensors_test.safetensors";
  const auto rows = [](const auto& sink) {
    for (int i = 0; i < 3; ++i) sink(std::vector<float>{static_cast<float>(i), -1.0f});
  };
  const std::vector<SafetensorsOutput> tensors = {{"logits", {3, 2}, rows}, {"also", {6}, rows}};
  write_safetensors(path, tensors, true);
  const SafetensorsFile file = SafetensorsFile::open(path);
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.find("logits")->shape, (std::vector<uint64_t>{3, 2}));
  float last[2];
  std::memcpy(last, file.find("logits")->data.data() + 16, 8);
  EXPECT_EQ(last[0], 2.0f);
  EXPECT_EQ(last[1], -1.0f);
  EXPECT_THROW(write_safetensors(path, tensors, false), Error);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace whit
