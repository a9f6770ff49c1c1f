// Pre-tokenizers in files: the steps of tokenizer.json, and both ways between GGUF and folders.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "data/pre_tokenizers/json_form.h"
#include "data/pre_tokenizers/names.h"
#include "data/tokenizer.h"
#include "fixtures.h"
#include "pieces.h"

namespace whit {
namespace {

using nlohmann::json;
using test::kText;
using test::pieces;

TEST(PreTokenizers, Behaviors) {
  const std::pair<const char*, std::vector<std::string>> rows[] = {
      {"Removed", {"a", "b", "c"}},
      {"Isolated", {"a", "-", "-", "b", "-", "c", "-"}},
      {"MergedWithPrevious", {"a-", "-", "b-", "c-"}},
      {"MergedWithNext", {"a", "-", "-b", "-c", "-"}},
      {"Contiguous", {"a", "--", "b", "-", "c", "-"}},
  };
  const std::pair<const char*, std::vector<std::string>> inverted[] = {
      {"Removed", {"-", "-", "-", "-"}},
      {"MergedWithPrevious", {"a", "-", "-b", "-c", "-"}},
      {"MergedWithNext", {"a-", "-", "b-", "c-"}},
  };
  const auto cut = [](const char* behavior, bool invert) {
    const json split = {{"type", "Split"}, {"pattern", {{"String", "-"}}}, {"behavior", behavior}, {"invert", invert}};
    const json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    return pieces(read_pre_tokenizer({{"type", "Sequence"}, {"pretokenizers", {split, bytes}}}), "a--b-c-");
  };
  for (const auto& [behavior, want] : rows) EXPECT_EQ(cut(behavior, false), want) << behavior;
  for (const auto& [behavior, want] : inverted) EXPECT_EQ(cut(behavior, true), want) << behavior;
}

TEST(PreTokenizers, StepsOfOtherTypes) {
  const json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  const std::pair<json, std::vector<std::string>> rows[] = {
      {{{"type", "Digits"}, {"individual_digits", false}}, {"a", "12", ", b"}},
      {{{"type", "Digits"}, {"individual_digits", true}}, {"a", "1", "2", ", b"}},
      {{{"type", "Punctuation"}}, {"a12", ",", " b"}},
      {{{"type", "Whitespace"}}, {"a12", ",", "b"}},
      {{{"type", "WhitespaceSplit"}}, {"a12,", "b"}},
      {{{"type", "BertPreTokenizer"}}, {"a12", ",", "b"}},
      {{{"type", "CharDelimiterSplit"}, {"delimiter", "2"}}, {"a1", ", b"}},
      {{{"type", "FixedLength"}, {"length", 4u}}, {"a12,", " b"}},
  };
  for (const auto& [step, want] : rows)
    EXPECT_EQ(pieces(read_pre_tokenizer({{"type", "Sequence"}, {"pretokenizers", {step, bytes}}}), "a12, b"), want)
        << step;
}

// After ByteLevel a pattern sees letters: U+00B2 is that of byte b2, and a number.
TEST(PreTokenizers, StepsAfterByteLevelSeeItsLetters) {
  const json steps = {{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}},
                      {{"type", "Digits"}, {"individual_digits", false}}};
  EXPECT_EQ(pieces(read_pre_tokenizer({{"type", "Sequence"}, {"pretokenizers", steps}}), "a\u0432 12"),
            (std::vector<std::string>{"a\xd0", "\xb2", " ", "12"}));
}

// llama_gqa with other steps.
std::map<std::string, std::string> files_with(const json& pre) {
  auto files = test::tokenizer_files("llama_gqa");
  json top = json::parse(files["tokenizer.json"]);
  top["pre_tokenizer"] = pre;
  files["tokenizer.json"] = top.dump();
  return files;
}
json split_before_bytes(const json& split) {
  return {{"type", "Sequence"},
          {"pretokenizers", {split, {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
}

TEST(PreTokenizersOfFiles, EveryNameBecomesAFolderWithTheSameIds) {
  KeyValues keys = tokenizer_metadata(test::tokenizer_files("llama_gqa"), 1027);
  std::set<std::string> seen;  // names with the same steps and defaults make the same folder
  for (const std::string& name : pre_tokenizer_names()) {
    const PreTokenizer& row = pre_tokenizer_by_name(name);
    if (!seen.insert(write_pre_tokenizer(split_steps(row)).dump() + (row.ignore_merges ? "1" : "0")).second) continue;
    keys.set("tokenizer.ggml.pre", name);
    const auto there = make_tokenizer(keys), back = make_tokenizer(tokenizer_files(keys));
    EXPECT_EQ(back->encode(kText, true, true), there->encode(kText, true, true)) << name;
  }
}

TEST(PreTokenizersOfFiles, StepsWithANameGetIt) {
  for (const char* name : {"gpt-2", "llama-bpe", "dbrx", "deepseek-r1-qwen", "gpt-4o", "deepseek-v3", "falcon", "bloom",
                           "tekken", "kimi-k2"}) {
    KeyValues keys = tokenizer_metadata(test::tokenizer_files("llama_gqa"), 1027);
    keys.set("tokenizer.ggml.pre", std::string(name));
    const bool whole = pre_tokenizer_by_name(name).ignore_merges;
    keys.set("tokenizer.whit.ignore_merges", whole);
    const KeyValues again = tokenizer_metadata(tokenizer_files(keys), 1027);
    EXPECT_EQ(again.string("tokenizer.ggml.pre"), name);
    EXPECT_FALSE(again.has("tokenizer.whit.pre_tokenizer")) << name;
  }
}

TEST(PreTokenizersOfFiles, StepsWithoutANameAreKept) {
  const json pre = split_before_bytes(
      {{"type", "Split"}, {"pattern", {{"Regex", "\\w+|\\s"}}}, {"behavior", "MergedWithNext"}, {"invert", true}});
  const auto files = files_with(pre);
  const auto folder = make_tokenizer(files);
  std::vector<std::string> notes;
  const KeyValues keys = tokenizer_metadata(files, 1027, &notes);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_NE(notes[0].find("tokenizer.ggml.pre"), std::string::npos);
  EXPECT_EQ(keys.string("tokenizer.ggml.pre"), "whit-pattern");
  const auto there = make_tokenizer(keys), back = make_tokenizer(tokenizer_files(keys));
  EXPECT_EQ(there->encode(kText, true, true), folder->encode(kText, true, true));
  EXPECT_EQ(back->encode(kText, true, true), folder->encode(kText, true, true));
  EXPECT_NE(folder->encode("ab cd", false, false),
            make_tokenizer(test::tokenizer_files("llama_gqa"))->encode("ab cd", false, false));
}

TEST(PreTokenizersOfFiles, ASpaceBeforePiecesIsKept) {
  json pre = split_before_bytes({{"type", "Digits"}, {"individual_digits", true}});
  pre["pretokenizers"][1]["add_prefix_space"] = true;
  const auto folder = make_tokenizer(files_with(pre));
  const KeyValues keys = tokenizer_metadata(files_with(pre), 1027);
  EXPECT_EQ(folder->decode(folder->encode("ab1", false, false), true), " ab 1");
  EXPECT_EQ(make_tokenizer(keys)->encode("ab1 2", false, false), folder->encode("ab1 2", false, false));
  EXPECT_EQ(make_tokenizer(tokenizer_files(keys))->encode("ab1 2", false, false),
            folder->encode("ab1 2", false, false));
}

TEST(PreTokenizersOfFiles, WithoutANameItIsTheDefaultAndSaysSo) {
  KeyValues keys = tokenizer_metadata(test::tokenizer_files("llama_gqa"), 1027);
  keys.set("tokenizer.ggml.pre", std::string("default"));
  const auto named = make_tokenizer(keys);
  EXPECT_TRUE(named->notes().empty());
  for (const bool empty : {false, true}) {
    keys.erase("tokenizer.ggml.pre");
    if (empty) keys.set("tokenizer.ggml.pre", std::string());
    const auto unnamed = make_tokenizer(keys);
    EXPECT_EQ(unnamed->encode(kText, true, true), named->encode(kText, true, true));
    ASSERT_EQ(unnamed->notes().size(), 1u);
    EXPECT_NE(unnamed->notes()[0].find("\"default\""), std::string::npos);
  }
}

TEST(PreTokenizersOfFiles, UnknownNamesAreRefusedWithTheNearest) {
  const std::pair<const char*, const char*> rows[] = {
      {"gpt4o", "gpt-4o"}, {"deepseek-v4", "deepseek-v3"}, {"qwen3", "qwen2"}, {"lama-bpe", "llama-bpe"}};
  for (const auto& [unknown, nearest] : rows) {
    KeyValues keys = tokenizer_metadata(test::tokenizer_files("llama_gqa"), 1027);
    keys.set("tokenizer.ggml.pre", std::string(unknown));
    try {
      make_tokenizer(keys);
      ADD_FAILURE() << unknown << " is read";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_NE(std::string(error.what()).find(nearest), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace whit
