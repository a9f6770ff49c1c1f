// What a folder says of its tokenizer and of its answers, over the way to GGUF keys, to the folder made of those, and
// back: the same ids, names, templates and sampling.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/generation.h"
#include "data/tokenizer.h"
#include "data_room/fixtures.h"

namespace whit {
namespace {

using nlohmann::json;
using Files = std::map<std::string, std::string>;
using Names = std::map<std::string, std::string>;

Files edited(const std::string& fixture, const std::function<void(json&)>& change) {
  Files files = test::tokenizer_files(fixture);
  json top = json::parse(files["tokenizer.json"]);
  change(top);
  files["tokenizer.json"] = top.dump();
  return files;
}

json token(int id, const std::string& content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

// The tokenizers of every station of the way.
std::vector<std::shared_ptr<const Tokenizer>> stations(const Files& files) {
  const KeyValues keys = tokenizer_metadata(files, 1300);
  const Files back = tokenizer_files(keys);
  return {make_tokenizer(files), make_tokenizer(keys), make_tokenizer(back),
          make_tokenizer(tokenizer_metadata(back, 1300))};
}

void expect_same_ids(const Files& files) {
  const auto tokenizers = stations(files);
  for (const char* text : {"Hello world", "  two  spaces ", "a\xef\xac\x81 \xe2\x91\xa0 e\xcc\x81", "<s> x</s>y", ""})
    for (size_t i = 1; i < tokenizers.size(); ++i) {
      const auto ids = tokenizers[0]->encode(text, true, true);
      EXPECT_EQ(tokenizers[i]->encode(text, true, true), ids) << text << " " << i;
      EXPECT_EQ(tokenizers[i]->decode(ids, false), tokenizers[0]->decode(ids, false)) << text << " " << i;
    }
}

// An id that the vocabulary does not have was read past its end.
TEST(Conversions, IdsOutOfRangeAreRefused) {
  const KeyValues right = tokenizer_metadata(test::tokenizer_files("llama2_sentencepiece"), 1300);
  for (const char* key :
       {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.unknown_token_id"}) {
    KeyValues wrong = right;
    wrong.set(key, uint32_t{1u << 30});
    EXPECT_THROW(tokenizer_files(wrong), Error) << key;
    EXPECT_THROW(make_tokenizer(wrong), Error) << key;
  }
}

TEST(Conversions, EveryWayToMarkSpaces) {
  const std::string mark = "\u2581";
  for (const char* scheme : {"never", "first", "always"}) {
    SCOPED_TRACE(scheme);
    expect_same_ids(edited("llama2_sentencepiece", [&](json& top) {
      top["normalizer"] = nullptr;
      top["pre_tokenizer"] = {
          {"type", "Metaspace"}, {"replacement", mark}, {"prepend_scheme", scheme}, {"split", false}};
      if (scheme == std::string("never")) top["decoder"]["decoders"].erase(3);
    }));
  }
}

TEST(Conversions, UnicodeFormsOfBothKinds) {
  for (const char* form : {"NFC", "NFD", "NFKC", "NFKD"}) {
    SCOPED_TRACE(form);
    expect_same_ids(edited("llama_gqa", [&](json& top) { top["normalizer"] = {{"type", form}}; }));
    expect_same_ids(edited("llama2_sentencepiece", [&](json& top) {
      json& steps = top["normalizer"]["normalizers"];
      steps.insert(steps.begin(), json::object({{"type", form}}));
    }));
  }
}

TEST(Conversions, WhatBertAndRobertaPutAround) {
  for (const char* kind : {"BertProcessing", "RobertaProcessing"}) {
    const Files files = edited("llama_gqa", [&](json& top) {
      top["post_processor"] = {{"type", kind}, {"sep", {"<|im_end|>", 2}}, {"cls", {"<|im_start|>", 1}}};
    });
    const auto ids = make_tokenizer(files)->encode("ab", true, true);
    ASSERT_GE(ids.size(), 3u);
    EXPECT_EQ(ids.front(), 1);
    EXPECT_EQ(ids.back(), 2);
    expect_same_ids(files);
  }
  const auto wrong = [](const json& post) {
    return edited("llama_gqa", [&](json& top) { top["post_processor"] = post; });
  };
  EXPECT_THROW(make_tokenizer(wrong({{"type", "BertProcessing"}, {"sep", "x"}, {"cls", {"a", 1}}})), Error);
  EXPECT_THROW(make_tokenizer(wrong({{"type", "BertProcessing"}, {"sep", {"x", 2}}, {"cls", {"a", -1}}})), Error);
}

// A template reads special tokens by name: all that the folder names, and no others.
TEST(Conversions, NamesOfSpecialTokens) {
  const auto names_of = [](const json& config) {
    Files files = edited("llama_gqa", [](json& top) {
      for (int i = 0; i < 4; ++i) top["added_tokens"].push_back(token(1024 + i, "<|x" + std::to_string(i) + "|>"));
    });
    files["tokenizer_config.json"] = config.dump();
    std::vector<Names> names;
    for (const auto& tokenizer : stations(files)) names.push_back(tokenizer->special_tokens());
    EXPECT_EQ(names, std::vector<Names>(4, names[0]));
    return names[0];
  };
  EXPECT_EQ(names_of(json::object()), Names{});
  EXPECT_EQ(names_of({{"sep_token", "<|x0|>"}, {"cls_token", "<|x1|>"}, {"mask_token", "<|x2|>"}}),
            (Names{{"sep_token", "<|x0|>"}, {"cls_token", "<|x1|>"}, {"mask_token", "<|x2|>"}}));
  EXPECT_EQ(names_of({{"unk_token", "<|im_end|>"}, {"bos_token", "<|x3|>"}, {"image_token", "<|x0|>"}}),
            (Names{{"unk_token", "<|im_end|>"}, {"bos_token", "<|x3|>"}, {"image_token", "<|x0|>"}}));
}

TEST(Conversions, SeparatorClassAndMaskAreKeysOfGguf) {
  Files files = test::tokenizer_files("llama_gqa");
  files["tokenizer_config.json"] =
      R"({"sep_token": "<|im_start|>", "cls_token": "<|im_end|>", "mask_token": "<|endoftext|>"})";
  KeyValues keys = tokenizer_metadata(files, 1027);
  EXPECT_EQ(keys.unsigned_integer("tokenizer.ggml.seperator_token_id"), 1u);
  EXPECT_EQ(keys.unsigned_integer("tokenizer.ggml.cls_token_id"), 2u);
  EXPECT_EQ(keys.unsigned_integer("tokenizer.ggml.mask_token_id"), 0u);
  keys.erase("tokenizer.whit.special_tokens");  // a file of another program
  EXPECT_EQ(make_tokenizer(keys)->special_tokens()["sep_token"], "<|im_start|>");
  for (const char* wrong : {"[]", "{\"a\": 1}", "{\"a\": {\"b\": {}}}", "{"}) {
    keys.set("tokenizer.whit.special_tokens", std::string(wrong));
    EXPECT_THROW(make_tokenizer(keys), Error) << wrong;
  }
}

// A token that the embedding has no row for is none that a file names.
TEST(Conversions, NamesOfTokensWithoutARowAreLeftOut) {
  Files files = edited("llama_gqa", [](json& top) { top["added_tokens"].push_back(token(1024, "<|far|>")); });
  files["tokenizer_config.json"] = R"({"sep_token": "<|far|>", "cls_token": "<|im_end|>"})";
  EXPECT_EQ(make_tokenizer(tokenizer_metadata(files, 1024))->special_tokens(), (Names{{"cls_token", "<|im_end|>"}}));
}

// As AutoTokenizer has them: files of templates, then tokenizer_config.json; a processor's file where there is neither.
TEST(Conversions, PlacesOfChatTemplates) {
  const auto read = [](const Files& more, size_t notes) {
    Files files = test::tokenizer_files("llama_gqa");
    for (const char* name : {"chat_template.jinja", "tokenizer_config.json"}) files.erase(name);
    for (const auto& [name, text] : more) files[name] = text;
    const auto tokenizer = make_tokenizer(files);
    EXPECT_EQ(tokenizer->notes().size(), notes);
    EXPECT_EQ(stations(files)[3]->chat_templates(), tokenizer->chat_templates());
    return tokenizer->chat_templates();
  };
  const std::string config = "tokenizer_config.json", jinja = "chat_template.jinja", old = "chat_template.json";
  EXPECT_EQ(read({}, 0), Names{});
  EXPECT_EQ(read({{old, R"({"chat_template": "O"})"}}, 1), (Names{{"default", "O"}}));
  EXPECT_EQ(read({{old, R"({"chat_template": "O"})"}, {jinja, "J"}}, 1), (Names{{"default", "J"}}));
  EXPECT_EQ(read({{old, R"({"chat_template": "J"})"}, {jinja, "J"}}, 0), (Names{{"default", "J"}}));
  EXPECT_EQ(read({{old, R"({"chat_template": "O"})"}, {config, R"({"chat_template": "C"})"}}, 1),
            (Names{{"default", "C"}}));
  EXPECT_EQ(read({{config, R"({"chat_template": "C"})"}, {jinja, "J"}}, 0), (Names{{"default", "J"}}));
  EXPECT_EQ(read({{config, R"({"chat_template": "C"})"}, {"additional_chat_templates/rag.jinja", "R"}}, 0),
            (Names{{"rag", "R"}}));
  EXPECT_EQ(read({{config, R"({"chat_template": {"default": "C", "rag": "R"}})"}}, 0),
            (Names{{"default", "C"}, {"rag", "R"}}));
  for (const char* wrong : {R"({})", R"({"chat_template": 1})", R"([])", "{"})
    EXPECT_THROW(read({{old, wrong}}, 0), Error) << wrong;
  for (const char* wrong : {R"({"chat_template": {"default": 1}})", R"({"chat_template": 1})"})
    EXPECT_THROW(read({{config, wrong}}, 0), Error) << wrong;
}

TEST(Conversions, NamedTemplatesWithoutTheirList) {
  KeyValues keys = tokenizer_metadata(test::tokenizer_files("llama_gqa"), 1027);
  keys.set("tokenizer.chat_template", std::string("D"));
  keys.set("tokenizer.chat_template.rag", std::string("R"));
  EXPECT_EQ(make_tokenizer(keys)->chat_templates(), (Names{{"default", "D"}, {"rag", "R"}}));
  keys.set("tokenizer.chat_templates", std::vector<std::string>{"rag", "gone"});
  EXPECT_THROW(make_tokenizer(keys), Error);
}

TEST(Conversions, HowAnswersAreDrawn) {
  Files files = test::tokenizer_files("llama_gqa");
  const auto drawn = [&](const std::string& generation) {
    files["generation_config.json"] = generation;
    const Sampling sampling = read_sampling(files);
    const KeyValues keys = tokenizer_metadata(files, 1027);
    const Sampling of_keys = read_sampling(keys);
    EXPECT_EQ(read_sampling(tokenizer_files(keys)).top_k, sampling.top_k) << generation;
    for (const auto member : {&Sampling::temperature, &Sampling::top_p, &Sampling::min_p, &Sampling::repeat_penalty}) {
      EXPECT_EQ((of_keys.*member).has_value(), (sampling.*member).has_value()) << generation;
      EXPECT_NEAR((of_keys.*member).value_or(0), (sampling.*member).value_or(0), 1e-7) << generation;
      EXPECT_EQ(read_sampling(tokenizer_files(keys)).*member, sampling.*member) << generation;  // shortest numbers
    }
    return sampling;
  };
  const Sampling full = drawn(R"({"do_sample": true, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "min_p": 0.1,
                                  "repetition_penalty": 1.05, "eos_token_id": 0})");
  EXPECT_EQ(full, (Sampling{0.6, 0.9, 0.1, 1.05, 20}));
  EXPECT_EQ(drawn("{}"), Sampling{});
  EXPECT_EQ(drawn(R"({"do_sample": false, "temperature": 0.6})").temperature, 0.0);
  EXPECT_EQ(drawn(R"({"top_k": -1})").top_k, 0);
  KeyValues keys = tokenizer_metadata(files, 1027);
  keys.set("general.sampling.temp", 0.25f);
  keys.set("general.sampling.top_k", uint32_t{7});
  EXPECT_EQ(read_sampling(keys).temperature, 0.25);
  EXPECT_EQ(read_sampling(keys).top_k, 7);
  const json generation = json::parse(tokenizer_files(keys)["generation_config.json"]);
  EXPECT_EQ(generation["do_sample"], json(true));
  for (const char* wrong : {R"({"temperature": -1})", R"({"temperature": "warm"})", R"({"top_p": 1.5})",
                            R"({"repetition_penalty": 0})", "[]"}) {
    files["generation_config.json"] = wrong;
    EXPECT_THROW(read_sampling(files), Error) << wrong;
  }
}

TEST(Conversions, WhatIsAskedOfAnswersAndNotDoneIsSaid) {
  Files files = test::tokenizer_files("llama_gqa");
  files["generation_config.json"] = R"({"suppress_tokens": [5], "begin_suppress_tokens": [], "bad_words_ids": [[7]],
      "num_beams": 4, "typical_p": 1.0, "max_new_tokens": 100, "no_repeat_ngram_size": 0, "top_k": 5})";
  const auto notes = make_tokenizer(files)->notes();
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_EQ(
      notes[0],
      "generation_config.json: bad_words_ids, num_beams, suppress_tokens are not followed: answers are drawn without");
  KeyValues keys = tokenizer_metadata(test::tokenizer_files("llama_gqa"), 1027);
  keys.set("general.sampling.mirostat", int32_t{2});
  keys.set("general.sampling.xtc_probability", 0.0f);
  ASSERT_EQ(make_tokenizer(keys)->notes().size(), 1u);
  EXPECT_EQ(make_tokenizer(keys)->notes()[0], "general.sampling.mirostat is not followed: answers are drawn without");
}

// transformers builds some classes from their vocabulary alone, whatever else tokenizer.json says.
TEST(Conversions, AClassWithOtherStepsIsNoted) {
  const auto notes = [](const std::string& fixture, const char* name) {
    Files files = test::tokenizer_files(fixture);
    files["config.json"] = "{}";
    files["tokenizer_config.json"] = json{{"tokenizer_class", name}}.dump();
    return make_tokenizer(files)->notes();
  };
  EXPECT_TRUE(notes("llama_gqa", "PreTrainedTokenizerFast").empty());
  EXPECT_TRUE(notes("gpt2", "GPT2TokenizerFast").empty());
  for (const char* name : {"Qwen2Tokenizer", "GemmaTokenizer"}) {
    const auto found = notes("gpt2", name);
    ASSERT_EQ(found.size(), 1u) << name;
    EXPECT_NE(found[0].find(name), std::string::npos);
  }
}

// As some writers say that there is no such token.
TEST(Conversions, AnIdOfAllOnesIsNone) {
  KeyValues keys = tokenizer_metadata(test::tokenizer_files("llama2_sentencepiece"), 1300);
  ASSERT_EQ(make_tokenizer(keys)->encode("a", true, false).at(0), 1);
  keys.set("tokenizer.ggml.bos_token_id", uint32_t{4294967295u});
  const auto tokenizer = make_tokenizer(keys);
  EXPECT_EQ(tokenizer->bos(), -1);
  EXPECT_EQ(tokenizer->encode("a", true, false), tokenizer->encode("a", false, false));
  EXPECT_EQ(make_tokenizer(tokenizer_files(keys))->encode("a", true, false), tokenizer->encode("a", false, false));
}

}  // namespace
}  // namespace whit
