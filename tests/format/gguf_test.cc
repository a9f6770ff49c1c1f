#include "format/gguf.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>

#include "format/container.h"
#include "format/gguf_builder.h"

namespace whit {
namespace {

// A small right file: two keys, two tensors.
GgufBuilder right() {
  GgufBuilder builder;
  builder.header(2, 2).text_key("general.architecture", "llama").key<uint32_t>("llama.block_count", 4, 1);
  builder.info("a", {32, 2}, 2, 0).info("b", {3}, 0, 64).pad();
  return builder.zeros(36).pad().zeros(12).pad();
}

TEST(Gguf, ReadsWhatWasWritten) {
  const GgufBuilder builder = right();
  const GgufFile gguf = GgufFile::parse(builder.span(), "test");
  EXPECT_EQ(gguf.metadata.string("general.architecture"), "llama");
  EXPECT_EQ(gguf.metadata.unsigned_integer("llama.block_count"), 1u);
  ASSERT_EQ(gguf.tensors.size(), 2u);
  EXPECT_EQ(gguf.find("a")->data.size(), 36u);
  EXPECT_EQ(gguf.find("b")->data.size(), 12u);
  EXPECT_EQ(gguf.find("c"), nullptr);
  EXPECT_EQ(verify_checksums(gguf, builder.span(), "test"), Integrity::absent);
}

TEST(Gguf, EveryTruncationIsAnError) {
  const GgufBuilder builder = right();
  const size_t needed = builder.bytes.size() - 20;  // the last padding is not needed where there are no checksums
  for (size_t size = 0; size < needed; ++size) {
    try {
      GgufFile::parse(builder.span().first(size), "cut.gguf");
      FAIL() << size;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input) << size;
      EXPECT_NE(error.where().find("cut.gguf: header"), std::string::npos) << error.where();
    }
  }
}

struct Hostile {
  const char* name;
  std::function<void(GgufBuilder&)> build;
  const char* says;  // part of the message
};

TEST(Gguf, HostileFilesAreInputErrors) {
  constexpr uint64_t kHuge = uint64_t{1} << 62;
  const std::vector<Hostile> cases = {
      {"empty", [](auto&) {}, "ends inside"},
      {"magic", [](auto& b) { b.header(0, 0, 3, "GGML"); }, "not a GGUF file"},
      {"version 1", [](auto& b) { b.header(0, 0, 1); }, "version of GGUF"},
      {"version 4", [](auto& b) { b.header(0, 0, 4); }, "version of GGUF"},
      {"big endian", [](auto& b) { b.header(0, 0, 0x03000000); }, "big-endian"},
      {"tensor count", [](auto& b) { b.header(kHuge, 0); }, "more than the file can hold"},
      {"key count", [](auto& b) { b.header(0, kHuge).zeros(64); }, "more than the file can hold"},
      {"key length", [](auto& b) { b.header(0, 1).number(kHuge).zeros(64); }, "too long"},
      {"value type", [](auto& b) { b.header(0, 1).template key<uint32_t>("k", 13, 1).zeros(64); },
       "unknown value type"},
      {"string length", [](auto& b) { b.header(0, 1).string("k").template number<int32_t>(8).number(kHuge).zeros(64); },
       "ends inside"},
      {"array count",
       [](auto& b) {
         b.header(0, 1).string("k").template number<int32_t>(9).template number<int32_t>(10).number(kHuge).zeros(64);
       },
       "more than the file can hold"},
      {"array count that wraps",
       [](auto& b) {
         b.header(0, 1)
             .string("k")
             .template number<int32_t>(9)
             .template number<int32_t>(10)
             .number(uint64_t{1} << 61)
             .zeros(64);
       },
       "more than the file can hold"},
      {"array of strings",
       [](auto& b) {
         b.header(0, 1)
             .string("k")
             .template number<int32_t>(9)
             .template number<int32_t>(8)
             .number(uint64_t{100})
             .zeros(64);
       },
       "more than the file can hold"},
      {"array type",
       [](auto& b) {
         b.header(0, 1)
             .string("k")
             .template number<int32_t>(9)
             .template number<int32_t>(77)
             .number(uint64_t{1})
             .zeros(64);
       },
       "unknown element type"},
      {"nested array",
       [](auto& b) {
         b.header(0, 1)
             .string("k")
             .template number<int32_t>(9)
             .template number<int32_t>(9)
             .number(uint64_t{1})
             .zeros(64);
       },
       "inside an array"},
      {"duplicate key",
       [](auto& b) { b.header(0, 2).template key<uint32_t>("k", 4, 1).template key<uint32_t>("k", 4, 2); },
       "there twice"},
      {"alignment 0", [](auto& b) { b.header(0, 1).template key<uint32_t>("general.alignment", 4, 0); }, "alignment"},
      {"alignment 48", [](auto& b) { b.header(0, 1).template key<uint32_t>("general.alignment", 4, 48); }, "alignment"},
      {"alignment 2^31", [](auto& b) { b.header(0, 1).template key<uint32_t>("general.alignment", 4, 1u << 31); },
       "alignment"},
      {"alignment a string", [](auto& b) { b.header(0, 1).text_key("general.alignment", "32"); }, "unexpected type"},
      {"tensor name length", [](auto& b) { b.header(1, 0).info(std::string(64, 'n'), {1}, 0, 0).zeros(64); },
       "too long"},
      {"dimensions",
       [](auto& b) {
         b.header(1, 0).info("a", {1, 1, 1, 1, 1}, 0, 0).zeros(64);
       },
       "too many dimensions"},
      {"duplicate tensor", [](auto& b) { b.header(2, 0).info("a", {1}, 0, 0).info("a", {1}, 0, 32).pad().zeros(64); },
       "there twice"},
      {"ragged blocks", [](auto& b) { b.header(1, 0).info("a", {33}, 2, 0).pad().zeros(64); },
       "no whole number of Q4_0 blocks"},
      {"size overflows",
       [](auto& b) {
         b.header(1, 0).info("a", {uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0).pad().zeros(64);
       },
       "overflows"},
      {"outside", [](auto& b) { b.header(1, 0).info("a", {1 << 20}, 0, 0).pad().zeros(64); }, "outside the file"},
      {"offset outside", [](auto& b) { b.header(1, 0).info("a", {1}, 0, kHuge).pad().zeros(64); }, "does not follow"},
      {"overlap", [](auto& b) { b.header(2, 0).info("a", {16}, 0, 0).info("b", {16}, 0, 32).pad().zeros(128); },
       "does not follow"},
      {"gap", [](auto& b) { b.header(2, 0).info("a", {8}, 0, 0).info("b", {8}, 0, 64).pad().zeros(128); },
       "does not follow"},
      {"odd offset", [](auto& b) { b.header(1, 0).info("a", {8}, 0, 4).pad().zeros(128); }, "does not follow"},
      {"back after an unknown type",
       [](auto& b) { b.header(2, 0).info("a", {8}, 99, 0).info("b", {uint64_t{1} << 40}, 0, 0).pad().zeros(32); },
       "outside the file"},
  };
  for (const Hostile& hostile : cases) {
    SCOPED_TRACE(hostile.name);
    GgufBuilder builder;
    hostile.build(builder);
    try {
      GgufFile::parse(builder.span(), "hostile.gguf");
      ADD_FAILURE() << "was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_NE(std::string(error.what()).find(hostile.says), std::string::npos) << error.what();
    }
  }
}

TEST(Gguf, UnknownTypesAreListedAndRefusedByNumber) {
  for (const auto& [type, name] : {std::pair(16, "IQ2_XXS"), std::pair(99, "unknown")}) {
    GgufBuilder builder;
    builder.header(1, 0).info("blk.0.attn_q.weight", {256}, type, 0).pad().zeros(66);
    const GgufFile gguf = GgufFile::parse(builder.span(), "test");
    EXPECT_EQ(gguf.tensors[0].type, type);
    try {
      stored_tensors(gguf);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_EQ(error.where(), "tensor blk.0.attn_q.weight");
      EXPECT_EQ(error.found(), "type " + std::to_string(type) + " (" + name + ")");
    }
  }
}

TEST(Gguf, ManyKeysTakeLinearTime) {
  constexpr uint64_t kKeys = 100000;
  GgufBuilder builder;
  builder.header(0, kKeys);
  for (uint64_t i = 0; i < kKeys; ++i) builder.key<uint8_t>("key." + std::to_string(i), 0, 1);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(GgufFile::parse(builder.span(), "test").metadata.all().size(), kKeys);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));  // quadratic: minutes
}

// Every value type survives writing and reading; sizes are as promised; checksums hold.
TEST(Gguf, WriterRoundTrip) {
  KeyValues metadata;
  metadata.set("u8", uint8_t{255});
  metadata.set("i8", int8_t{-128});
  metadata.set("u16", uint16_t{65535});
  metadata.set("i16", int16_t{-5});
  metadata.set("u32", uint32_t{7});
  metadata.set("i32", int32_t{-7});
  metadata.set("f32", 1.5f);
  metadata.set("bool", true);
  metadata.set("string", std::string("text\0with zero", 14));
  metadata.set("u64", uint64_t{1} << 63);
  metadata.set("i64", int64_t{-1});
  metadata.set("f64", 0.1);
  metadata.set("empty", std::string());
  metadata.set("a.u8", std::vector<uint8_t>{1, 2});
  metadata.set("a.bool", std::vector<bool>{true, false, true});
  metadata.set("a.string", std::vector<std::string>{"", "b", "cc"});
  metadata.set("a.f64", std::vector<double>{});
  metadata.set("a.i16", std::vector<int16_t>{-1});
  const std::filesystem::path path = testing::TempDir() + "/whit_writer_test.gguf";
  for (const uint64_t alignment : {32u, 64u})
    for (const bool checksums : {false, true})
      for (const size_t count : {0u, 1u, 3u}) {
        std::vector<GgufOutput> tensors;
        for (size_t i = 0; i < count; ++i)
          tensors.push_back({"t" + std::to_string(i), {5 + i, 3}, GgmlType::i8, (5 + i) * 3, [i](const auto& sink) {
                               const std::vector<std::byte> row(5 + i, static_cast<std::byte>(i + 1));
                               for (int r = 0; r < 3; ++r) sink(row);
                             }});
        {
          AtomicFile file(path, true);
          write_gguf(file, metadata, tensors, checksums, alignment);
          file.commit();
        }
        ASSERT_EQ(std::filesystem::file_size(path), gguf_file_bytes(metadata, tensors, checksums, alignment));
        const GgufFile gguf = GgufFile::open(path);
        EXPECT_EQ(gguf.alignment, alignment);
        EXPECT_EQ(verify_checksums(gguf), checksums ? Integrity::ok : Integrity::absent);
        for (const KeyValue& item : metadata.all()) {
          ASSERT_TRUE(gguf.metadata.has(item.key)) << item.key;
          EXPECT_TRUE(*gguf.metadata.find(item.key) == item.value) << item.key;
        }
        ASSERT_EQ(gguf.tensors.size(), count);
        for (size_t i = 0; i < count; ++i) {
          EXPECT_EQ(gguf.tensors[i].dimensions, (std::vector<uint64_t>{5 + i, 3}));
          EXPECT_EQ(gguf.tensors[i].data.back(), static_cast<std::byte>(i + 1));
        }
      }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace whit
