#include "data/chat.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace whit {
namespace {

const std::vector<ChatMessage> kHi = {{"user", "hi"}};
const std::vector<ChatMessage> kTalk = {
    {"system", "Be brief."}, {"user", " one "}, {"assistant", "two"}, {"user", "three"}};

// SmolLM2-Instruct's, as its GGUF has it: the line ends inside the strings are real ones.
constexpr char kSmol[] =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n"
    "' + message['content'] + '<|im_end|>' + '\n"
    "'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n"
    "' }}{% endif %}";
constexpr char kPlainChatml[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
    "'\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
// A template that writes the user's own system message must not be taken for one with a default.
constexpr char kSystemFromMessages[] =
    "{{ '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}{{ '<|im_start|>assistant\\n' }}";
constexpr char kLlama2[] = "{{ bos_token + '[INST] ' }} '<<SYS>>\\n' + system_message";
constexpr char kLlama3[] = "'<|start_header_id|>' + message['content'] | trim + '<|eot_id|>'";
constexpr char kZephyr[] = "{{ '<|user|>\\n' + message['content'] + eos_token }} {{ '<|assistant|>' }}";

TEST(Chat, RecognisesByContent) {
  EXPECT_EQ(recognise_chat_template(kSmol), ChatTemplate::chatml);
  EXPECT_EQ(recognise_chat_template(kPlainChatml), ChatTemplate::chatml);
  EXPECT_EQ(recognise_chat_template(kLlama2), ChatTemplate::llama2);
  EXPECT_EQ(recognise_chat_template(kLlama3), ChatTemplate::llama3);
  EXPECT_EQ(recognise_chat_template(kZephyr), ChatTemplate::zephyr);
  EXPECT_EQ(recognise_chat_template(""), std::nullopt);
  EXPECT_EQ(recognise_chat_template("[INST] without system"), std::nullopt);
  EXPECT_EQ(recognise_chat_template("<|user|><|end|><|assistant|> eos_token"), std::nullopt);
}

TEST(Chat, SmolLM2HasADefaultSystemMessage) {
  EXPECT_EQ(render_chat(ChatTemplate::chatml, kSmol, kHi),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(render_chat(ChatTemplate::chatml, kSmol, kTalk),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n one <|im_end|>\n<|im_start|>assistant\ntwo"
            "<|im_end|>\n<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(render_chat(ChatTemplate::chatml, kSmol, {}), "<|im_start|>assistant\n");
}

TEST(Chat, OtherChatMLHasNone) {
  const std::string plain = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
  EXPECT_EQ(render_chat(ChatTemplate::chatml, kPlainChatml, kHi), plain);
  EXPECT_EQ(render_chat(ChatTemplate::chatml, kSystemFromMessages, kHi), plain);
  EXPECT_EQ(render_chat(ChatTemplate::chatml, "", kHi), plain);
}

TEST(Chat, DefaultSystemMessageWithEscapes) {
  EXPECT_EQ(render_chat(ChatTemplate::chatml, R"({{ '<|im_start|>system\nDon\'t.<|im_end|>\n' }})", kHi),
            "<|im_start|>system\nDon't.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}

TEST(Chat, Llama2) {
  EXPECT_EQ(render_chat(ChatTemplate::llama2, kLlama2, kHi), "<s>[INST] hi [/INST]");
  EXPECT_EQ(render_chat(ChatTemplate::llama2, kLlama2, kTalk),
            "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n one [/INST] two </s><s>[INST] three [/INST]");
  EXPECT_THROW(render_chat(ChatTemplate::llama2, kLlama2, {{"assistant", "x"}}), Error);
  EXPECT_THROW(render_chat(ChatTemplate::llama2, kLlama2, {{"user", "x"}, {"user", "y"}}), Error);
}

TEST(Chat, Llama3) {
  EXPECT_EQ(
      render_chat(ChatTemplate::llama3, kLlama3, kTalk),
      "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
      "<|start_header_id|>user<|end_header_id|>\n\none<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\ntwo"
      "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nthree<|eot_id|>"
      "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

TEST(Chat, Zephyr) {
  EXPECT_EQ(render_chat(ChatTemplate::zephyr, kZephyr, {{"system", "S"}, {"user", "hi"}}),
            "<|system|>\nS</s>\n<|user|>\nhi</s>\n<|assistant|>\n");
  EXPECT_THROW(render_chat(ChatTemplate::zephyr, kZephyr, {{"tool", "x"}}), Error);
}

TEST(Chat, NamesAndStops) {
  EXPECT_EQ(chat_template_by_name("llama3"), ChatTemplate::llama3);
  try {
    chat_template_by_name("chatm");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find("chatml"), std::string::npos);
  }
  for (const ChatTemplate kind :
       {ChatTemplate::chatml, ChatTemplate::llama2, ChatTemplate::llama3, ChatTemplate::zephyr})
    EXPECT_FALSE(chat_stop_strings(kind).empty());
}

}  // namespace
}  // namespace whit
