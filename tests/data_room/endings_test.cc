// Every way to say what ends an answer, from folder to GGUF and back; tokens without a row; runs of spaces that are
// tokens.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/tokenizer.h"
#include "data_room/fixtures.h"

namespace whit {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;
using Files = std::map<std::string, std::string>;

json token(int id, const std::string& content, bool special) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

// llama_gqa, whose own ends are <|endoftext|> (0, by generation_config.json) and <|im_end|> (2, by its name).
Files with_tokens(const std::vector<json>& tokens) {
  Files files = test::tokenizer_files("llama_gqa");
  json top = json::parse(files["tokenizer.json"]);
  for (const json& each : tokens) top["added_tokens"].push_back(each);
  files["tokenizer.json"] = top.dump();
  return files;
}

// The folder says the ends, and so do its GGUF keys, the folder made of those, and the keys made of that.
void expect_ends(const Files& files, const Ids& ends) {
  EXPECT_EQ(make_tokenizer(files)->ends(), ends);
  const KeyValues keys = tokenizer_metadata(files, 1100);
  EXPECT_EQ(make_tokenizer(keys)->ends(), ends);
  const Files back = tokenizer_files(keys);
  EXPECT_EQ(make_tokenizer(back)->ends(), ends);
  EXPECT_EQ(make_tokenizer(tokenizer_metadata(back, 1100))->ends(), ends);
}

TEST(Endings, OfGenerationConfig) {
  Files files = with_tokens({token(1024, "<|stop|>", true)});
  files["generation_config.json"] = R"({"eos_token_id": [0, 1024]})";
  expect_ends(files, {0, 2, 1024});
  files["generation_config.json"] = R"({"eos_token_id": 1024})";
  files["config.json"] = R"({"eos_token_id": null})";
  expect_ends(files, {0, 2, 1024});
  files["generation_config.json"] = R"({"eos_token_id": [700, 1024]})";  // one is a piece of text
  expect_ends(files, {0, 2, 700, 1024});
}

TEST(Endings, OfConfigBesideGenerationConfig) {
  Files files = with_tokens({token(1024, "<|stop|>", true)});
  files["generation_config.json"] = R"({"eos_token_id": 0})";
  files["config.json"] = R"({"eos_token_id": [1024, 700]})";  // 700 is a piece of text: transformers goes on after it
  expect_ends(files, {0, 2, 1024});
  const auto notes = make_tokenizer(files)->notes();
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_NE(notes[0].find("700"), std::string::npos);
  files.erase("generation_config.json");
  expect_ends(files, {0, 2, 700, 1024});
}

TEST(Endings, PastTheTokens) {  // a row of the embedding without a token
  Files files = with_tokens({});
  files["generation_config.json"] = R"({"eos_token_id": [0, 1030]})";
  expect_ends(files, {0, 2, 1030});
  EXPECT_EQ(make_tokenizer(tokenizer_metadata(files, 1027))->ends(), (Ids{0, 2}));
}

TEST(Endings, OfNames) {
  Files files = with_tokens({});
  files["tokenizer_config.json"] = R"({"eos_token": "the"})";  // in the vocabulary alone
  expect_ends(files, {0, 2, 404});
  files["tokenizer_config.json"] = R"({"eos_token": "<|new|>"})";
  expect_ends(files, {0, 2, 1024});
  files["tokenizer_config.json"] = "{}";
  files["special_tokens_map.json"] = R"({"eos_token": {"content": "<|new|>"}})";
  expect_ends(files, {0, 2, 1024});
}

TEST(Endings, KnownTexts) {
  std::vector<json> tokens;
  Ids ends = {0, 2};
  for (const char* text : {"<|eot_id|>", "<|end|>", "<|return|>", "<|flush|>", "<end_of_turn>", "</s>", "<|eom_id|>",
                           "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>",
                           "<turn|>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "[e~["}) {
    ends.push_back(1024 + static_cast<int32_t>(tokens.size()));
    tokens.push_back(token(ends.back(), text, true));
  }
  tokens.push_back(token(ends.back() + 1, "<|start|>", true));
  expect_ends(with_tokens(tokens), ends);
  // With several parts to a message, <|end|> ends a part.
  expect_ends(
      with_tokens({token(1024, "<|end|>", true), token(1025, "<|return|>", true), token(1026, "<|call|>", true)}),
      {0, 2, 1025, 1026});
  // Text in a folder, unless it is special there.
  expect_ends(with_tokens({token(1024, "<|file_sep|>", false)}), {0, 2});
}

TEST(Endings, StopStrings) {
  Files files = with_tokens({});
  files["generation_config.json"] = R"({"eos_token_id": 0, "stop_strings": ["\n\n", "User:"]})";
  const std::vector<std::string> stops = {"\n\n", "User:"};
  EXPECT_EQ(make_tokenizer(files)->stop_strings(), stops);
  const KeyValues keys = tokenizer_metadata(files, 1030);
  EXPECT_EQ(make_tokenizer(keys)->stop_strings(), stops);
  EXPECT_EQ(make_tokenizer(tokenizer_files(keys))->stop_strings(), stops);
}

// As other programs' files say it.
TEST(Endings, OfGgufKeys) {
  KeyValues keys = tokenizer_metadata(with_tokens({}), 1030);
  EXPECT_FALSE(keys.has("tokenizer.ggml.eos_token_ids"));  // nothing that the other keys do not say
  keys.set("tokenizer.ggml.eos_token_ids", std::vector<int32_t>{0, 500});
  EXPECT_EQ(make_tokenizer(keys)->ends(), (Ids{0, 2, 500}));
  keys.set("tokenizer.ggml.eos_token_ids", std::vector<uint32_t>{500, 501});
  keys.set("tokenizer.ggml.eot_token_id", uint32_t{600});
  keys.set("tokenizer.ggml.eom_token_id", uint32_t{601});
  keys.set("tokenizer.ggml.fim_pad_token_id", uint32_t{602});
  EXPECT_EQ(make_tokenizer(keys)->ends(), (Ids{0, 2, 500, 501, 600, 601, 602}));
  EXPECT_EQ(make_tokenizer(tokenizer_files(keys))->ends(), (Ids{0, 2, 500, 501, 600, 601, 602}));
  keys.set("tokenizer.ggml.eos_token_ids", std::vector<int32_t>{-7});
  EXPECT_THROW(make_tokenizer(keys), Error);
}

// A converter that wrote an ending as a normal token: llama.cpp knows it by its text, and it is a token in a prompt.
TEST(Endings, KnownTextsThatAreNormalInAGguf) {
  KeyValues keys = tokenizer_metadata(with_tokens({}), 1030);
  auto types = *keys.array<int32_t>("tokenizer.ggml.token_type");
  types[2] = 1;
  keys.set("tokenizer.ggml.token_type", types);
  const auto tokenizer = make_tokenizer(keys);
  EXPECT_EQ(tokenizer->ends(), (Ids{0, 2}));
  EXPECT_TRUE(tokenizer->is_special(2));
  EXPECT_EQ(tokenizer->encode("<|im_end|>", false, true), Ids{2});
}

TEST(Rows, TokensWithoutOneAreLeftOut) {
  Files files = with_tokens({token(1024, "<|a|>", true), token(1025, "<|b|>", true), token(1026, "<|end|>", true)});
  files["tokenizer_config.json"] = R"({"eos_token": "<|end|>", "pad_token": "<|b|>"})";
  std::vector<std::string> notes;
  const KeyValues keys = tokenizer_metadata(files, 1025, &notes);
  ASSERT_EQ(notes.size(), 1u);
  for (const char* part : {"1027 tokens", "1025 rows", "<|b|>"})
    EXPECT_NE(notes[0].find(part), std::string::npos) << part;
  EXPECT_EQ(keys.array<std::string>("tokenizer.ggml.tokens")->size(), 1025u);
  EXPECT_FALSE(keys.has("tokenizer.ggml.eos_token_id"));
  EXPECT_FALSE(keys.has("tokenizer.ggml.padding_token_id"));
  const auto tokenizer = make_tokenizer(keys);
  EXPECT_EQ(tokenizer->ends(), (Ids{0, 2}));
  EXPECT_EQ(tokenizer->encode("<|a|>", false, true), Ids{1024});
  for (const int32_t id : tokenizer->encode("<|b|><|end|>the", false, true)) EXPECT_LT(id, 1025);
  // Pieces of text too, with their merges.
  notes.clear();
  const auto small = make_tokenizer(tokenizer_metadata(files, 400, &notes));
  EXPECT_EQ(small->decode(small->encode("the cat", false, false), false), "the cat");
  EXPECT_EQ(notes.size(), 1u);
  files["tokenizer.json"] = [&] {
    json top = json::parse(files["tokenizer.json"]);
    top["post_processor"] = {{"type", "TemplateProcessing"},
                             {"single", {{{"SpecialToken", {{"id", "<|b|>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
                             {"special_tokens", {{"<|b|>", {{"ids", {1025}}}}}}};
    return top.dump();
  }();
  EXPECT_THROW(tokenizer_metadata(files, 1025), Error);
}

// Gemma's GGUF files have runs of spaces, tabs and line ends as tokens of their own, spaces as such.
TEST(Runs, OfSpacesComeBack) {
  KeyValues keys = tokenizer_metadata(test::tokenizer_files("llama2_sentencepiece"), 1280);
  auto tokens = *keys.array<std::string>("tokenizer.ggml.tokens");
  auto types = *keys.array<int32_t>("tokenizer.ggml.token_type");
  auto scores = *keys.array<float>("tokenizer.ggml.scores");
  for (const char* space : {" ", "\n", "\t"})
    for (size_t length = 2; length < 32; ++length) {
      std::string run;
      for (size_t i = 0; i < length; ++i) run += space;
      tokens.push_back(run);
      types.push_back(4);
      scores.push_back(-1000.0f * static_cast<float>(scores.size()));
    }
  keys.set("tokenizer.ggml.tokens", tokens);
  keys.set("tokenizer.ggml.token_type", types);
  keys.set("tokenizer.ggml.scores", scores);
  keys.set("tokenizer.ggml.add_space_prefix", false);
  for (const char* key : {"tokenizer.ggml.merges", "tokenizer.whit.added_ids", "tokenizer.whit.added_flags"})
    keys.erase(key);
  const auto original = make_tokenizer(keys);
  EXPECT_EQ(original->encode("a   b", false, true).size(), 3u);
  const Files files = tokenizer_files(keys);
  const KeyValues again = tokenizer_metadata(files, tokens.size());
  for (const auto& tokenizer : {make_tokenizer(files), make_tokenizer(again), make_tokenizer(tokenizer_files(again))})
    for (const std::string& text :
         {std::string("the  cat\n\n\n sat"), std::string(70, ' ') + "x", std::string(40, '\n') + "\t\t y",
          std::string(" a \n b"), std::string("one two"), std::string("\u2581\u2581 marks")}) {
      EXPECT_EQ(tokenizer->encode(text, true, true), original->encode(text, true, true)) << text;
      const Ids ids = original->encode(text, false, true);
      EXPECT_EQ(tokenizer->decode(ids, true), original->decode(ids, true)) << text;
    }
}

}  // namespace
}  // namespace whit
