// Typed key-values and JSON from outside.
#include <gtest/gtest.h>

#include "base/json.h"
#include "base/keyvalue.h"

namespace whit {
namespace {

template <class Body>
std::string refusal(Body body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    return error.what();
  }
  return "";
}

TEST(KeyValues, ReadAnyIntegerButNoOtherType) {
  KeyValues values;
  values.set("small", uint8_t{200});
  values.set("signed", int32_t{7});
  values.set("negative", int64_t{-1});
  values.set("real", 2.5f);
  values.set("flag", true);
  values.set("text", std::string("llama"));
  values.set("list", std::vector<uint32_t>{1, 2});
  EXPECT_EQ(values.unsigned_integer("small"), 200u);
  EXPECT_EQ(values.unsigned_integer("signed"), 7u);
  EXPECT_EQ(values.unsigned_integer("absent", 9), 9u);
  EXPECT_EQ(values.number("real"), 2.5);
  EXPECT_EQ(values.number("signed"), 7.0);
  EXPECT_TRUE(values.boolean("flag", false));
  EXPECT_EQ(values.string("text"), "llama");
  EXPECT_EQ(values.array<uint32_t>("list")->size(), 2u);
  EXPECT_EQ(values.array<uint32_t>("absent"), nullptr);

  EXPECT_NE(refusal([&] { values.unsigned_integer("negative"); }).find("negative"), std::string::npos);
  EXPECT_NE(refusal([&] { values.unsigned_integer("flag", 3); }).find("bool"), std::string::npos);
  EXPECT_NE(refusal([&] { values.number("text"); }).find("string"), std::string::npos);
  EXPECT_NE(refusal([&] { values.string("absent"); }).find("absent"), std::string::npos);
  EXPECT_NE(refusal([&] { values.array<float>("list"); }).find("array of u32"), std::string::npos);
}

TEST(KeyValues, KeepTheirOrder) {
  KeyValues values;
  for (const char* key : {"b", "a", "c"}) values.set(key, std::string(key));
  values.set("a", std::string("new"));
  values.erase("b");
  ASSERT_EQ(values.all().size(), 2u);
  EXPECT_EQ(values.all()[0].key, "a");
  EXPECT_EQ(values.string("a"), "new");
  EXPECT_FALSE(values.has("b"));
}

TEST(OutsideJson, IsBounded) {
  EXPECT_EQ(parse_json(R"({"a": [1, {"b": 2}], "c": {"b": 3}})", "x")["c"]["b"], 3);  // b twice, in two objects
  EXPECT_NE(refusal([] { parse_json(R"({"a": 1, "a": 2})", "config.json"); }).find("twice"), std::string::npos);
  EXPECT_NE(refusal([] { parse_json(R"({"a": )", "config.json"); }).find("config.json"), std::string::npos);
  EXPECT_NE(refusal([] { parse_json("", "config.json"); }), "");
  EXPECT_NE(refusal([] { parse_json("{} {}", "config.json"); }), "");
  const std::string deep = std::string(1000000, '[') + std::string(1000000, ']');
  EXPECT_NE(refusal([&] { parse_json(deep, "config.json"); }).find("nested"), std::string::npos);
  EXPECT_NE(refusal([] { parse_json("\"\xff\"", "config.json"); }), "");
}

}  // namespace
}  // namespace whit
