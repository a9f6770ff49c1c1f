// Tokenizers against what Hugging Face's library made of the same texts, and the promises of tokenizer.h.
#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>

#include "data_room/fixtures.h"
#include "format/gguf.h"

namespace whit {
namespace {

using Ids = std::vector<int32_t>;

class Reference : public testing::TestWithParam<const char*> {};

void expect_reference(const Tokenizer& tokenizer, const std::string& folder) {
  const auto reference = nlohmann::json::parse(read_file(test::data_path(folder) / "reference.json"));
  ASSERT_GT(reference["tokenize"].size(), 15u);
  for (const auto& row : reference["tokenize"]) {
    const auto text = row["text"].get<std::string>();
    EXPECT_EQ(tokenizer.encode(text, true, true), row["ids"].get<Ids>()) << text;
    EXPECT_EQ(tokenizer.encode(text, false, true), row["ids_no_special"].get<Ids>()) << text;
    EXPECT_EQ(tokenizer.decode(row["ids_no_special"].get<Ids>(), false), row["decoded"].get<std::string>()) << text;
  }
}

TEST_P(Reference, FromTheFolder) { expect_reference(*make_tokenizer(test::tokenizer_files(GetParam())), GetParam()); }

TEST_P(Reference, FromGgufKeys) {
  const KeyValues keys = tokenizer_metadata(test::tokenizer_files(GetParam()), 1300);
  EXPECT_EQ(keys.array<std::string>("tokenizer.ggml.tokens")->size(), 1300u);
  EXPECT_EQ(keys.array<std::string>("tokenizer.ggml.tokens")->back(), "[PAD1299]");
  expect_reference(*make_tokenizer(keys), GetParam());
}

TEST_P(Reference, FromFilesMadeOfGgufKeys) {
  const KeyValues keys = tokenizer_metadata(test::tokenizer_files(GetParam()), 1300);
  const auto files = tokenizer_files(keys);
  expect_reference(*make_tokenizer(files), GetParam());
  const KeyValues again = tokenizer_metadata(files, 1300);
  ASSERT_EQ(again.all().size(), keys.all().size());
  for (size_t i = 0; i < keys.all().size(); ++i) {
    EXPECT_EQ(again.all()[i].key, keys.all()[i].key);
    EXPECT_EQ(again.all()[i].value, keys.all()[i].value) << keys.all()[i].key;
  }
}

// Bytes of any kind come back piece by piece, whatever the text.
TEST_P(Reference, PiecesJoinToTheText) {
  const auto tokenizer = make_tokenizer(test::tokenizer_files(GetParam()));
  const bool prefixed = tokenizer->kind().starts_with("SentencePiece");
  for (const std::string& text :
       {std::string("plain words"), std::string("\xff\xfe broken \xc3"), std::string("cut \xe4\xb8"),
        std::string(1, '\0'), std::string("\xed\xa0\x80 surrogate"), std::string("\xf4\x90\x80\x80"),
        std::string("\xc0\xaf")}) {
    std::string joined;
    for (const int32_t id : tokenizer->encode(text, false, true)) joined += tokenizer->piece(id);
    EXPECT_EQ(joined, prefixed ? " " + text : text);
  }
}

TEST_P(Reference, EmptyTextHasOnlyTheEnds) {
  const auto tokenizer = make_tokenizer(test::tokenizer_files(GetParam()));
  EXPECT_TRUE(tokenizer->encode("", false, false).empty());
  const Ids ends = tokenizer->bos() < 0 ? Ids{} : Ids{tokenizer->bos()};
  EXPECT_EQ(tokenizer->encode("", true, true), ends);
  EXPECT_EQ(tokenizer->decode({}, true), "");
}

// Four times the text must not take much more than four times as long: 9 allows for noise, quadratic would be 16.
TEST_P(Reference, TimeIsLinearWithoutSpaces) {
  const auto tokenizer = make_tokenizer(test::tokenizer_files(GetParam()));
  const auto fastest = [&](const std::string& text) {
    double best = 1e9;
    for (int repeat = 0; repeat < 3; ++repeat) {
      const auto start = std::clock();
      EXPECT_FALSE(tokenizer->encode(text, false, false).empty());
      best = std::min(best, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
    }
    return best;
  };
  std::string mixed;
  for (uint64_t i = 0; mixed.size() < 400000; ++i) mixed += "thequickbrownfoxjumpsoverthelazydog"[(i * i + i / 7) % 35];
  for (const std::string& text : {std::string(400000, 'a'), mixed, std::string(400000, ' '), std::string(400000, '<')})
    EXPECT_LT(fastest(text), 9 * fastest(text.substr(0, 100000)) + 0.02) << text.substr(0, 10);
}

INSTANTIATE_TEST_SUITE_P(Folders, Reference, testing::ValuesIn(test::kFolders),
                         [](const auto& info) { return std::string(info.param); });

TEST(Specials, AreTextUnlessAskedFor) {
  const auto tokenizer = make_tokenizer(test::tokenizer_files("llama_gqa"));
  const std::string text = "<|im_start|>user\nhi<|im_end|>";
  const Ids parsed = tokenizer->encode(text, false, true), plain = tokenizer->encode(text, false, false);
  EXPECT_EQ(parsed.front(), 1);
  EXPECT_EQ(parsed.back(), 2);
  for (const int32_t id : plain) EXPECT_FALSE(tokenizer->is_special(id)) << id;
  EXPECT_EQ(tokenizer->decode(plain, true), text);
  EXPECT_EQ(tokenizer->decode(parsed, false), text);
  EXPECT_EQ(tokenizer->decode(parsed, true), "user\nhi");
}

TEST(Specials, EndAnswers) {
  const auto tokenizer = make_tokenizer(test::tokenizer_files("llama_gqa"));
  EXPECT_EQ(tokenizer->ends(), (Ids{0, 2}));  // <|endoftext|> by config.json, <|im_end|> by its name
  EXPECT_EQ(tokenizer->bos(), -1);            // named by config.json, but never added
  EXPECT_EQ(make_tokenizer(test::tokenizer_files("llama2_sentencepiece"))->bos(), 1);
}

TEST(Specials, IdsOutOfRangeAreNothing) {
  const auto tokenizer = make_tokenizer(test::tokenizer_files("llama_gqa"));
  EXPECT_EQ(tokenizer->decode(Ids{-1, 5000, 42}, false), tokenizer->piece(42));
  EXPECT_EQ(tokenizer->piece(-1), "");
  EXPECT_FALSE(tokenizer->is_special(1 << 20));
}

// Variants of a tokenizer.json that other models have, with ids by tools/compare_tokenizers.py's reference; from the
// folder, and from the keys that are written for it.
void expect_ids(const std::string& folder, const std::function<void(nlohmann::json&)>& change,
                const std::vector<std::pair<std::string, Ids>>& rows) {
  auto files = test::tokenizer_files(folder);
  nlohmann::json top = nlohmann::json::parse(files["tokenizer.json"]);
  change(top);
  files["tokenizer.json"] = top.dump();
  for (const auto& tokenizer : {make_tokenizer(files), make_tokenizer(tokenizer_metadata(files, 1300))})
    for (const auto& [text, ids] : rows) EXPECT_EQ(tokenizer->encode(text, true, true), ids) << text;
}

nlohmann::json added(int id, const char* content, const char* flag) {
  nlohmann::json token = {{"id", id}, {"content", content}, {"normalized", false}, {"special", false}};
  token[flag] = true;
  return token;
}

TEST(Variants, Gemma) {
  expect_ids(
      "llama2_sentencepiece",
      [](nlohmann::json& top) {
        top["normalizer"] = top["normalizer"]["normalizers"][1];
        top["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"String", " "}}}, {"behavior", "MergedWithPrevious"}};
        top["decoder"]["decoders"].erase(3);
      },
      {
          {"the cat", {1, 478, 326, 450}},
          {" two  spaces", {1, 397, 673, 338, 410, 630, 455, 475}},
          {"é\n", {1, 359, 13}},
      });
}

TEST(Variants, Phi3SwallowsSpace) {
  expect_ids("llama2_sentencepiece",
             [](nlohmann::json& top) { top["added_tokens"].push_back(added(1280, "<|end|>", "rstrip")); },
             {
                 {"hi<|end|>\nthe cat", {1, 397, 331, 332, 1280, 429, 326, 450}},
                 {"<|end|>  <|end|>", {1, 1280, 1280}},
             });
}

TEST(Variants, MetaspaceFirst) {
  expect_ids("llama2_sentencepiece",
             [](nlohmann::json& top) {
               top["normalizer"] = nullptr;
               top["pre_tokenizer"] = {
                   {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}, {"split", false}};
               top["added_tokens"].push_back(added(1280, "<x>", "normalized"));
             },
             {
                 {"the<x>cat", {1, 576, 1280, 326, 450}},
                 {" the<x> cat", {1, 576, 1280, 431, 450}},
                 {"<x>the", {1, 1280, 747}},
             });
}

TEST(Variants, MetaspaceAlways) {
  expect_ids("llama2_sentencepiece",
             [](nlohmann::json& top) {
               top["normalizer"] = nullptr;
               top["pre_tokenizer"] = {
                   {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "always"}, {"split", false}};
               top["added_tokens"].push_back(added(1280, "<x>", "normalized"));
             },
             {
                 {"the<x>cat", {1, 576, 1280, 431, 450}},
                 {" the<x> cat", {1, 576, 1280, 431, 450}},
                 {"<x>the", {1, 1280, 576}},
             });
}

TEST(Variants, PrefixSpace) {
  expect_ids("gpt2", [](nlohmann::json& top) { top["pre_tokenizer"]["add_prefix_space"] = true; },
             {
                 {"the cat", {268, 269, 272}},
                 {" the", {268}},
                 {"<|im_start|>the", {1, 268}},
             });
}

TEST(Variants, FormAndLeftStrip) {
  expect_ids("qwen2_bias",
             [](nlohmann::json& top) {
               top["normalizer"] = {{"type", "NFKC"}};
               top["added_tokens"].push_back(added(1024, "<x>", "lstrip"));
             },
             {
                 {"ﬁ½  <x> é", {72, 75, 19, 161, 226, 229, 20, 1024, 223, 572}},
             });
}

// What a file with ggml's keys alone means by a name of tokenizer.ggml.pre.
TEST(Gguf, NamesImplyWhatTheirModelsHave) {
  KeyValues keys = tokenizer_metadata(test::tokenizer_files("qwen2_bias"), 1027);
  keys.erase("tokenizer.ggml.add_bos_token");
  keys.set("tokenizer.ggml.bos_token_id", uint32_t{0});
  const auto encode = [&](const char* pre, const std::string& text) {
    keys.set("tokenizer.ggml.pre", std::string(pre));
    return make_tokenizer(keys)->encode(text, true, true);
  };
  EXPECT_EQ(encode("qwen2", "e\u0301"), encode("qwen2", "é"));  // NFC
  EXPECT_NE(encode("smollm", "e\u0301"), encode("smollm", "é"));
  EXPECT_EQ(encode("qwen2", "a").front(), encode("gpt-2", "a").front());
  for (const char* pre : {"llama-bpe", "llama3", "llama-v3", "tekken"}) EXPECT_EQ(encode(pre, "a").front(), 0) << pre;
  EXPECT_EQ(encode("starcoder", "a 12"), encode("smollm", "a 12"));
  EXPECT_NE(encode("default", "a <"), encode("gpt-2", "a <"));  // signs are cut off first
}

TEST(Gguf, SaysThatThereIsNoUnknownToken) {
  auto files = test::tokenizer_files("llama2_sentencepiece");
  nlohmann::json top = nlohmann::json::parse(files["tokenizer.json"]);
  top["model"].erase("unk_token");
  // So that a line end is no token's.
  const int newline = top["model"]["vocab"]["<0x0A>"];
  top["model"]["vocab"].erase("<0x0A>");
  auto& added = top["added_tokens"];
  added.erase(std::find_if(added.begin(), added.end(), [&](const auto& token) { return token["id"] == newline; }));
  files["tokenizer.json"] = top.dump();
  const Ids ids = make_tokenizer(files)->encode("a\nb", false, true);
  EXPECT_EQ(make_tokenizer(tokenizer_metadata(files, 1280))->encode("a\nb", false, true), ids);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 0), 0);
}

TEST(Gguf, Phi3IsKnownByArchitectureAndTokens) {
  auto files = test::tokenizer_files("llama2_sentencepiece");
  KeyValues keys = tokenizer_metadata(files, 1280);
  keys.erase("tokenizer.whit.added_ids");
  keys.erase("tokenizer.whit.added_flags");
  const auto swallows = [&] { return make_tokenizer(keys)->encode("</s> \n", false, true).size() == 1; };
  keys.set("general.architecture", std::string("phi3"));
  EXPECT_FALSE(swallows());  // without its tokens
  auto tokens = *keys.array<std::string>("tokenizer.ggml.tokens");
  auto types = *keys.array<int32_t>("tokenizer.ggml.token_type");
  tokens[1270] = "<|user|>", tokens[1271] = "<|assistant|>", tokens[1272] = "<|end|>";
  types[1270] = types[1271] = types[1272] = 3;
  keys.erase("tokenizer.ggml.merges");
  keys.set("tokenizer.ggml.tokens", tokens);
  keys.set("tokenizer.ggml.token_type", types);
  for (const char* name : {"Phi-3-mini-4k-instruct", "Phi 3 Mini 4k Instruct", "my model"}) {
    keys.set("general.name", std::string(name));
    EXPECT_TRUE(swallows()) << name;
  }
  EXPECT_GT(make_tokenizer(keys)->encode("<s> \n", false, true).size(), 1u);
  const KeyValues back = tokenizer_metadata(tokenizer_files(keys), 1280);  // says so by itself
  EXPECT_EQ(make_tokenizer(back)->encode("</s> \n", false, true), Ids{2});
  for (const auto& [architecture, swallowed] : {std::pair{"whit", true}, {"llama", false}}) {
    keys.set("general.architecture", std::string(architecture));
    keys.set("whit.base_architecture", std::string(swallowed ? "phi3" : "llama"));
    EXPECT_EQ(swallows(), swallowed) << architecture;
  }
  // A model of the architecture whose tokens do not swallow: the flags are written, so nothing is guessed.
  nlohmann::json top = nlohmann::json::parse(files["tokenizer.json"]);
  int id = 1280;
  for (const char* turn : {"<|user|>", "<|assistant|>", "<|end|>"})
    top["added_tokens"].push_back({{"id", id++}, {"content", turn}, {"normalized", false}, {"special", true}});
  files["tokenizer.json"] = top.dump();
  KeyValues kept = tokenizer_metadata(files, 1300);
  kept.set("general.architecture", std::string("phi3"));
  for (const std::string text : {"<|end|> \n", "</s> \n<|user|>"})
    EXPECT_EQ(make_tokenizer(kept)->encode(text, false, true), make_tokenizer(files)->encode(text, false, true));
}

// The scores of this file: ids and text by hand-checked properties, as no reference ids come with it.
// A tokenizer of scores alone becomes one of merges: the same ids.
TEST(Gguf, ScoresBecomeMerges) {
  const KeyValues keys = GgufFile::open(test::data_path("models/stories260K.gguf")).metadata;
  const auto scores = make_tokenizer(keys), merges = make_tokenizer(tokenizer_files(keys));
  for (const std::string& text :
       {std::string("Once upon a time, there was a little girl named Lily."), std::string("  two  spaces "),
        std::string("naïve 日本 \n\t😀"), std::string("aaaaaaaaabababab ththth ingingin")})
    EXPECT_EQ(merges->encode(text, true, false), scores->encode(text, true, false)) << text;
}

TEST(Gguf, SentencePieceWithScores) {
  const auto tokenizer = make_tokenizer(GgufFile::open(test::data_path("models/stories260K.gguf")).metadata);
  EXPECT_EQ(tokenizer->vocabulary(), 512u);
  EXPECT_EQ(tokenizer->bos(), 1);
  for (const std::string& text : {std::string("Once upon a time, there was a little girl."),
                                  std::string("  two  spaces "), std::string("naïve 日本 \n\t😀")}) {
    const Ids ids = tokenizer->encode(text, true, false);
    EXPECT_EQ(ids[0], 1);
    EXPECT_EQ(tokenizer->decode(ids, true), text);
  }
  // Known from the model's own documentation: the story's first words.
  EXPECT_EQ(tokenizer->encode("Once upon a time", true, false), (Ids{1, 403, 407, 261, 378}));
}

}  // namespace
}  // namespace whit
