// Tokenizer files that are wrong on purpose: each is an Error that says where, none a crash.
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/tokenizer.h"
#include "data_room/fixtures.h"

namespace whit {
namespace {

using nlohmann::json;

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input) << error.what();
    return error.what();
  }
  return "";
}

struct Case {
  const char* name;
  const char* folder;
  std::function<void(json&)> change;
  const char* says;  // part of the message
};

json& pattern_of(json& top) { return top["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]; }

const Case kCases[] = {
    {"NoModel", "llama_gqa", [](json& j) { j.erase("model"); }, "model"},
    {"ModelIsAList", "llama_gqa", [](json& j) { j["model"] = json::array(); }, "model"},
    {"OtherModel", "llama_gqa", [](json& j) { j["model"]["type"] = "WordPiece"; }, "WordPiece"},
    {"Unigram", "llama_gqa", [](json& j) { j["model"]["type"] = "Unigram"; }, "T5"},
    {"VocabIsAList", "llama_gqa",
     [](json& j) {
       j["model"]["vocab"] = {1, 2};
     },
     "vocab"},
    {"VocabIdIsText", "llama_gqa", [](json& j) { j["model"]["vocab"]["zz"] = "7"; }, "token id"},
    {"VocabIdIsNegative", "llama_gqa", [](json& j) { j["model"]["vocab"]["zz"] = -7; }, "out of range"},
    {"VocabIdIsHuge", "llama_gqa", [](json& j) { j["model"]["vocab"]["zz"] = 18446744073709551615ull; },
     "out of range"},
    {"VocabIdIsAFraction", "llama_gqa", [](json& j) { j["model"]["vocab"]["zz"] = 1.5; }, "token id"},
    {"VocabHasHoles", "llama_gqa", [](json& j) { j["model"]["vocab"]["zz"] = 10000000; }, "holes"},
    {"VocabIdTwice", "llama_gqa", [](json& j) { j["model"]["vocab"]["zz"] = 500; }, "same id"},
    {"MergesAreText", "llama_gqa", [](json& j) { j["model"]["merges"] = "a b"; }, "merges"},
    {"MergeOfUnknown", "llama_gqa",
     [](json& j) {
       j["model"]["merges"].push_back({"qqq", "zzz"});
     },
     "merges[765]"},
    {"MergeWithoutSpace", "llama_gqa", [](json& j) { j["model"]["merges"].push_back("ab"); }, "merges[765]"},
    {"MergeOfThree", "llama_gqa", [](json& j) { j["model"]["merges"].push_back("a b c"); }, "merges[765]"},
    {"MergeOfNumbers", "llama_gqa",
     [](json& j) {
       j["model"]["merges"].push_back({1, 2});
     },
     "merges[765]"},
    {"Prefix", "llama_gqa", [](json& j) { j["model"]["continuing_subword_prefix"] = "##"; }, "##"},
    {"Suffix", "llama_gqa", [](json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, "</w>"},
    {"Dropout", "llama_gqa", [](json& j) { j["model"]["dropout"] = 0.1; }, "0.1"},
    {"FlagIsText", "llama_gqa", [](json& j) { j["model"]["ignore_merges"] = "yes"; }, "ignore_merges"},
    {"UnknownToken", "llama_gqa", [](json& j) { j["model"]["unk_token"] = "nowhere"; }, "nowhere"},
    {"Normalizer", "llama_gqa",
     [](json& j) {
       j["normalizer"] = {{"type", "Lowercase"}};
     },
     "Lowercase"},
    {"NormalizerIsText", "llama_gqa", [](json& j) { j["normalizer"] = "NFC"; }, "NFC"},
    {"NoPreTokenizer", "llama_gqa", [](json& j) { j["pre_tokenizer"] = nullptr; }, "pre-tokenizer"},
    {"PatternRefersToAGroup", "llama_gqa", [](json& j) { pattern_of(j) = R"((a)\1)"; }, R"(\1)"},
    {"PatternIsBroken", "llama_gqa", [](json& j) { pattern_of(j) = "(?:a"; }, "parenthesis"},
    {"PatternRepeatsNothing", "llama_gqa", [](json& j) { pattern_of(j) = "a|*"; }, "repetition"},
    {"PatternOfAnUnknownScript", "llama_gqa", [](json& j) { pattern_of(j) = R"(\p{Klingon})"; }, "Klingon"},
    {"PatternTooDeep", "llama_gqa",
     [](json& j) { pattern_of(j) = std::string(10000, '(') + "a" + std::string(10000, ')'); }, "deep"},
    {"PatternTooLong", "llama_gqa", [](json& j) { pattern_of(j) = std::string(1 << 20, 'a'); }, "long"},
    {"PatternRepeatsTooOften", "llama_gqa", [](json& j) { pattern_of(j) = "(?:(?:a{60000}){60000})"; }, "pattern"},
    {"PatternIsNumber", "llama_gqa", [](json& j) { pattern_of(j) = 3; }, "pattern"},
    {"Behavior", "llama_gqa", [](json& j) { j["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Isolate"; },
     "Isolated"},
    {"BytesTwice", "llama_gqa",
     [](json& j) { j["pre_tokenizer"]["pretokenizers"].push_back(j["pre_tokenizer"]["pretokenizers"][1]); },
     "second ByteLevel"},
    {"NoBytes", "llama_gqa", [](json& j) { j["pre_tokenizer"]["pretokenizers"].erase(1); }, "ByteLevel"},
    {"Scripts", "llama_gqa",
     [](json& j) {
       j["pre_tokenizer"]["pretokenizers"][0] = {{"type", "UnicodeScripts"}};
     },
     "UnicodeScripts"},
    {"TooManySteps", "llama_gqa",
     [](json& j) {
       for (int i = 0; i < 100; ++i)
         j["pre_tokenizer"]["pretokenizers"].push_back(j["pre_tokenizer"]["pretokenizers"][0]);
     },
     "steps"},
    {"Decoder", "llama_gqa",
     [](json& j) {
       j["decoder"] = {{"type", "WordPiece"}};
     },
     "WordPiece"},
    {"NoDecoder", "llama_gqa", [](json& j) { j.erase("decoder"); }, "decoder"},
    {"PostProcessor", "llama_gqa",
     [](json& j) {
       j["post_processor"] = {{"type", "OtherProcessing"}};
     },
     "OtherProcessing"},
    {"PostProcessorWithoutTokens", "llama_gqa",
     [](json& j) {
       j["post_processor"] = {{"type", "BertProcessing"}};
     },
     "post_processor.cls"},
    {"TemplateWithoutText", "llama2_sentencepiece", [](json& j) { j["post_processor"]["single"].erase(1); },
     "template"},
    {"TemplateNamesNobody", "llama2_sentencepiece",
     [](json& j) { j["post_processor"]["special_tokens"] = json::object(); }, "<s>"},
    {"TemplateIdTooBig", "llama2_sentencepiece",
     [](json& j) { j["post_processor"]["special_tokens"]["<s>"]["ids"][0] = 9999; }, "9999"},
    {"OtherReplacement", "llama2_sentencepiece", [](json& j) { j["normalizer"]["normalizers"][1]["content"] = "_"; },
     "normalizer"},
    {"AddedWithoutId", "llama_gqa", [](json& j) { j["added_tokens"][0].erase("id"); }, "token id"},
    {"AddedWithoutContent", "llama_gqa", [](json& j) { j["added_tokens"][0].erase("content"); }, "content"},
    {"AddedTakesAnId", "llama_gqa", [](json& j) { j["added_tokens"][0]["id"] = 77; }, "another token"},
    {"AddedHasAnotherIdInTheVocabulary", "llama_gqa",
     [](json& j) {
       j["added_tokens"].push_back({{"id", 1024}, {"content", "ab"}});
     },
     "another id"},
    {"AddedTwice", "llama_gqa", [](json& j) { j["added_tokens"].push_back(j["added_tokens"][0]); }, "same id"},
    {"AddedIsText", "llama_gqa", [](json& j) { j["added_tokens"] = "all"; }, "added_tokens"},
    {"AddedAreNumbers", "llama_gqa",
     [](json& j) {
       j["added_tokens"] = {1, 2};
     },
     "token id"},
};

class Hostile : public testing::TestWithParam<Case> {};

TEST_P(Hostile, IsAnErrorThatSaysSo) {
  const Case& row = GetParam();
  auto files = test::tokenizer_files(row.folder);
  json changed = json::parse(files["tokenizer.json"]);
  row.change(changed);
  files["tokenizer.json"] = changed.dump();
  const std::string message = message_of([&] { make_tokenizer(files); });
  EXPECT_NE(message.find(row.says), std::string::npos) << "says: " << message;
}

INSTANTIATE_TEST_SUITE_P(Files, Hostile, testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(HostileJson, DeepNestingAndNonsense) {
  const auto fails = [](const std::string& text) {
    return message_of([&] { make_tokenizer({{"tokenizer.json", text}}); });
  };
  EXPECT_NE(fails(std::string(1000000, '[')), "");
  EXPECT_NE(fails("{\"model\":" + std::string(100000, '[') + std::string(100000, ']') + "}"), "");
  EXPECT_NE(fails(""), "");
  EXPECT_NE(fails("[]"), "");
  EXPECT_NE(fails("{"), "");
  EXPECT_NE(fails("{\"model\": \"\xff\"}"), "");
  EXPECT_NE(message_of([&] { make_tokenizer(std::map<std::string, std::string>{}); }), "");
}

// What was found is shown, but never a megabyte of it.
TEST(HostileJson, MessagesStayShort) {
  auto files = test::tokenizer_files("llama_gqa");
  json changed = json::parse(files["tokenizer.json"]);
  changed["normalizer"] = {{"type", std::string(1000000, 'x')}};
  files["tokenizer.json"] = changed.dump();
  EXPECT_LT(message_of([&] { make_tokenizer(files); }).size(), 2000u);
}

struct KeyCase {
  const char* name;
  std::function<void(KeyValues&)> change;
  const char* says;
};

const KeyCase kKeyCases[] = {
    {"NoModel", [](KeyValues& k) { k.erase("tokenizer.ggml.model"); }, "tokenizer.ggml.model"},
    {"OtherModel", [](KeyValues& k) { k.set("tokenizer.ggml.model", std::string("bert")); }, "bert"},
    {"Unigram", [](KeyValues& k) { k.set("tokenizer.ggml.model", std::string("t5")); }, "T5"},
    {"PreOfAnotherAlphabet", [](KeyValues& k) { k.set("tokenizer.ggml.pre", std::string("gemma4")); }, "gemma4"},
    {"OwnPreTokenizer", [](KeyValues& k) { k.set("tokenizer.whit.pre_tokenizer", std::string("{")); }, "pre_tokenizer"},
    {"OtherPre", [](KeyValues& k) { k.set("tokenizer.ggml.pre", std::string("lama-bpe")); }, "llama-bpe"},
    {"NoTokens", [](KeyValues& k) { k.erase("tokenizer.ggml.tokens"); }, "tokens"},
    {"TokensAreNumbers", [](KeyValues& k) { k.set("tokenizer.ggml.tokens", std::vector<int32_t>{1}); }, "tokens"},
    {"NoMerges", [](KeyValues& k) { k.erase("tokenizer.ggml.merges"); }, "merges"},
    {"BrokenMerge", [](KeyValues& k) { k.set("tokenizer.ggml.merges", std::vector<std::string>{"a"}); }, "merges[0]"},
    {"EmptyMerge", [](KeyValues& k) { k.set("tokenizer.ggml.merges", std::vector<std::string>{""}); }, "merges[0]"},
    {"FewTypes", [](KeyValues& k) { k.set("tokenizer.ggml.token_type", std::vector<int32_t>{1}); }, "token_type"},
    {"TypeNine", [](KeyValues& k) { k.set("tokenizer.ggml.token_type", std::vector<int32_t>(1027, 9)); },
     "token_type[0]"},
    {"UnknownForm", [](KeyValues& k) { k.set("tokenizer.whit.unicode_form", std::string("nfx")); }, "nfx"},
    {"UnknownPrefix", [](KeyValues& k) { k.set("tokenizer.whit.space_prefix", std::string("alway")); }, "always"},
    {"BosTooBig", [](KeyValues& k) { k.set("tokenizer.ggml.bos_token_id", uint32_t{5000}); }, "5000"},
    {"EosTooBig", [](KeyValues& k) { k.set("tokenizer.ggml.eos_token_id", uint32_t{4000000000u}); }, "4000000000"},
    {"AddedOutOfRange",
     [](KeyValues& k) {
       k.set("tokenizer.whit.added_ids", std::vector<int32_t>{-3});
       k.set("tokenizer.whit.added_flags", std::vector<int32_t>{0});
     },
     "-3"},
    {"AddedWithoutFlags", [](KeyValues& k) { k.set("tokenizer.whit.added_ids", std::vector<int32_t>{3}); },
     "added_flags"},
    {"ScoresForNobody",
     [](KeyValues& k) {
       k.set("tokenizer.ggml.model", std::string("llama"));
       k.erase("tokenizer.ggml.merges");
     },
     "scores"},
    {"ScoreIsNan",
     [](KeyValues& k) {
       k.set("tokenizer.ggml.model", std::string("llama"));
       k.erase("tokenizer.ggml.merges");
       k.set("tokenizer.ggml.scores", std::vector<float>(1027, std::numeric_limits<float>::quiet_NaN()));
     },
     "scores"},
    {"LongTokenWithScores",
     [](KeyValues& k) {
       std::vector<std::string> tokens(1027, "a");
       tokens[0] = std::string(100000, 'a');
       k.set("tokenizer.ggml.model", std::string("llama"));
       k.erase("tokenizer.ggml.merges");
       k.set("tokenizer.ggml.tokens", tokens);
       k.set("tokenizer.ggml.token_type", std::vector<int32_t>(1027, 1));
       k.set("tokenizer.ggml.scores", std::vector<float>(1027, 0.0f));
     },
     "too long"},
};

class HostileKeys : public testing::TestWithParam<KeyCase> {};

TEST_P(HostileKeys, AreAnErrorThatSaysSo) {
  KeyValues keys = tokenizer_metadata(test::tokenizer_files("llama_gqa"), 1027);
  GetParam().change(keys);
  const std::string message = message_of([&] { make_tokenizer(keys); });
  EXPECT_NE(message.find(GetParam().says), std::string::npos) << "says: " << message;
}

INSTANTIATE_TEST_SUITE_P(Keys, HostileKeys, testing::ValuesIn(kKeyCases),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace whit
