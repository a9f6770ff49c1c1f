#include "base/json.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/hash.h"

namespace whit {
namespace {

std::string refused(std::string_view text, int depth = 64) {
  try {
    parse_json(text, "file.json", depth);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    EXPECT_EQ(error.where(), "file.json");
    return error.message();
  }
  return "";
}

TEST(Json, ReadsAndRefuses) {
  EXPECT_EQ(parse_json(R"({"a":[1,2.5,null,{"b":"c"}],"d":{"b":1}})", "x")["a"][3]["b"], "c");
  for (const char* text : {"", "{", "{\"a\"}", "[1,]", "nul", "1 2", "\"\xff\"", "{\"a\":1e999}"})
    EXPECT_NE(refused(text), "") << text;
}

TEST(Json, DuplicateKeysAreRefusedAtEveryLevel) {
  EXPECT_EQ(refused(R"({"a":1,"a":2})"), "a JSON key is there twice");
  EXPECT_EQ(refused(R"({"x":[{"a":1,"b":{"a":1},"a":2}]})"), "a JSON key is there twice");
  EXPECT_EQ(refused(R"([{"a":1},{"a":1},{"b":{"a":{"a":1}}}])"), "");
}

TEST(Json, DepthIsBounded) {
  EXPECT_EQ(refused("[[[[1]]]]", 4), "");
  EXPECT_EQ(refused("[[[[[1]]]]]", 4), "the JSON is nested too deeply");
  EXPECT_EQ(refused(std::string(1 << 22, '[')), "the JSON is nested too deeply");
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_EQ(refused(objects), "the JSON is nested too deeply");
}

TEST(Hash, PiecesHashAsTheWhole) {
  std::string bytes;
  for (int i = 0; i < 3000; ++i) bytes.push_back(static_cast<char>(i * 37));
  const auto all = std::as_bytes(std::span(bytes.data(), bytes.size()));
  for (const size_t cut : {size_t{0}, size_t{1}, size_t{255}, size_t{1024}, size_t{3000}})
    EXPECT_EQ(Xxh3().add(all.first(cut)).add(all.subspan(cut)).value(), xxh3_64(all));
  EXPECT_EQ(xxh3_64({}), 0x2d06800538d394c2ull);  // the published value of XXH3-64 for no input
}

}  // namespace
}  // namespace whit
