#include "data/chat.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "data/tokenizer.h"
#include "data_room/fixtures.h"

namespace whit {
namespace {

Json turn(const char* role, const char* content) { return {{"role", role}, {"content", content}}; }

const Json kTalk =
    Json::array({turn("system", "Be brief."), turn("user", " one "), turn("assistant", "two"), turn("user", "three")});

std::string read(const std::string& name) { return read_file(test::data_path("chat") / name); }

// What transformers makes of our own templates (tests/data/chat/README.md).
TEST(Chat, RendersAsTheReference) {
  const Json contexts = Json::parse(read("contexts.json"));
  const std::tm now = parse_chat_date(contexts["now"], "");
  size_t templates = 0, texts = 0;
  for (const auto& entry : std::filesystem::directory_iterator(test::data_path("chat"))) {
    if (entry.path().extension() != ".jinja") continue;
    ++templates;
    const ChatTemplate chat(read_file(entry.path()));
    const Json wanted = Json::parse(read(entry.path().stem().string() + ".json"));
    for (const auto& [name, text] : wanted.items()) {
      const std::string where = entry.path().filename().string() + ", " + name;
      if (text.is_null()) {
        EXPECT_THROW(chat.render_variables(contexts[name], now), Error) << where;
      } else {
        EXPECT_EQ(chat.render_variables(contexts[name], now), text.get<std::string>()) << where;
        ++texts;
      }
    }
  }
  EXPECT_GE(templates, 8u);
  EXPECT_GE(texts, 200u);
}

TEST(Chat, MessagesArePreparedAsTransformersDoes) {
  const ChatTemplate chat(
      "{% for m in messages %}{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}{% endfor %}{{ tools }}{{ "
      "documents }}");
  EXPECT_EQ(chat.render(Json::array({{{"role", "assistant"}, {"content", nullptr}, {"reasoning", "hm"}}})),
            "thinking=hm;role=assistant;reasoning=hm;reasoning_content=hm;NoneNone");
}

TEST(Chat, VariablesOfTheProgram) {
  const ChatTemplate chat(
      "{{ bos_token }}{{ enable_thinking }}{{ tools }}{{ add_generation_prompt }}{{ strftime_now('%d %B %Y') }}");
  ChatOptions options;
  options.special_tokens = {{"bos_token", "<s>"}};
  options.thinking = false;
  options.tools = Json::array({{{"name", "f"}}});
  options.now = parse_chat_date("2025-12-01", "");
  EXPECT_EQ(chat.render(Json::array(), options), "<s>False[{'name': 'f'}]True01 December 2025");
  EXPECT_EQ(chat.render(Json::array()), "NoneTrue26 July 2024");
  EXPECT_EQ(chat.thinking_switches(), std::vector<std::string>{"enable_thinking"});
  EXPECT_TRUE(ChatTemplate("{{ messages }}").thinking_switches().empty());
  EXPECT_THROW(chat.render(Json("text")), Error);
  EXPECT_THROW(chat.render(Json::array({1})), Error);
}

TEST(Chat, Dates) {
  EXPECT_EQ(parse_chat_date("2024-02-29", "").tm_wday, 4);
  EXPECT_EQ(parse_chat_date("2024-12-31", "").tm_yday, 365);
  EXPECT_EQ(parse_chat_date("1970-01-01T23:59:58", "").tm_sec, 58);
  for (const char* text : {"2023-02-29", "2024-13-01", "2024-1-1", "today", "", "2024-01-01T25:00:00", "2024-01-00"})
    EXPECT_THROW(parse_chat_date(text, "--date"), Error) << text;
}

TEST(Chat, BuiltinTemplates) {
  const auto say = [](const char* name, const Json& messages = kTalk) {
    return ChatTemplate(builtin_chat_template(name)).render(messages);
  };
  EXPECT_EQ(say("chatml"),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n one "
            "<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>\n"
            "<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(say("llama2"), "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n one [/INST] two </s><s>[INST] three [/INST]");
  EXPECT_EQ(
      say("llama3"),
      "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user"
      "<|end_header_id|>\n\none<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\ntwo<|eot_id|>"
      "<|start_header_id|>user<|end_header_id|>\n\nthree<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_EQ(say("mistral-v1"), "<s> [INST] Be brief.\n\n one  [/INST] two</s> [INST] three [/INST]");
  EXPECT_EQ(say("mistral-v3"), "<s>[INST]  one [/INST] two</s>[INST] Be brief.\n\nthree[/INST]");
  EXPECT_EQ(say("gemma"),
            "<bos><start_of_turn>user\nBe brief.\n\none<end_of_turn>\n<start_of_turn>model\ntwo<end_of_turn>\n"
            "<start_of_turn>user\nthree<end_of_turn>\n<start_of_turn>model\n");
  EXPECT_EQ(say("phi3"),
            "<|system|>\nBe brief.<|end|>\n<|user|>\n one <|end|>\n<|assistant|>\ntwo<|end|>\n<|user|>\nthree<|end|>\n"
            "<|assistant|>\n");
  EXPECT_EQ(
      say("phi4"),
      "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|> one <|im_end|><|im_start|>assistant"
      "<|im_sep|>two<|im_end|><|im_start|>user<|im_sep|>three<|im_end|><|im_start|>assistant<|im_sep|>");
  EXPECT_EQ(
      say("zephyr"),
      "<|system|>\nBe brief.</s>\n<|user|>\n one </s>\n<|assistant|>\ntwo</s>\n<|user|>\nthree</s>\n<|assistant|>\n");
  const Json thought =
      Json::array({turn("user", "a"), turn("assistant", "<think>\nhm\n</think>\n\nb"), turn("user", "c")});
  EXPECT_EQ(say("qwen3", thought),
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
            "<|im_start|>assistant\n");
  EXPECT_EQ(builtin_chat_template("chatm"), "");
  for (const std::string& name : builtin_chat_templates()) {
    const ChatTemplate chat(builtin_chat_template(name));
    EXPECT_NE(chat.after_answer({}).find('>'), std::string::npos) << name;  // a mark ends each answer
  }
}

TEST(Chat, WhatFollowsAnAnswer) {
  EXPECT_EQ(ChatTemplate(builtin_chat_template("chatml")).after_answer({}), "<|im_end|>\n");
  EXPECT_EQ(ChatTemplate("{{ raise_exception('no') }}").after_answer({}), "");
  EXPECT_EQ(ChatTemplate("nothing").after_answer({}), "");
}

// Named templates and special tokens of folders, of GGUF keys, and over the way from one to the other.
TEST(Chat, NamedTemplatesSurviveConversions) {
  auto files = test::tokenizer_files("llama_gqa");
  Json config = Json::parse(files["tokenizer_config.json"]);
  config["chat_template"] =
      Json::array({{{"name", "default"}, {"template", "D{{ bos_token }}"}}, {{"name", "tool_use"}, {"template", "T"}}});
  files["tokenizer_config.json"] = config.dump();
  const auto folder = make_tokenizer(files);
  const std::map<std::string, std::string> both = {{"default", "D{{ bos_token }}"}, {"tool_use", "T"}};
  EXPECT_EQ(folder->chat_templates(), both);
  EXPECT_EQ(folder->chat_template(), "D{{ bos_token }}");
  const KeyValues keys = tokenizer_metadata(files, folder->vocabulary());
  EXPECT_EQ(keys.string("tokenizer.chat_template"), "D{{ bos_token }}");
  EXPECT_EQ(keys.string("tokenizer.chat_template.tool_use"), "T");
  EXPECT_EQ(make_tokenizer(keys)->chat_templates(), both);
  EXPECT_EQ(make_tokenizer(tokenizer_files(keys))->chat_templates(), both);
  for (const char* name : {"bos_token", "eos_token"})
    if (folder->special_tokens().contains(name))
      EXPECT_EQ(make_tokenizer(keys)->special_tokens()[name], folder->special_tokens()[name]) << name;
  // Files beside the configuration outdo it.
  files["chat_template.jinja"] = "J";
  files["additional_chat_templates/rag.jinja"] = "R";
  EXPECT_EQ(make_tokenizer(files)->chat_templates(),
            (std::map<std::string, std::string>{{"default", "J"}, {"rag", "R"}}));
}

}  // namespace
}  // namespace whit
