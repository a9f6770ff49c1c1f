#include "data/chat.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data_room/fixtures.h"

namespace whit {
namespace {

ChatTemplate chatml() { return chat_template_by_name("chatml"); }

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
TEST(Chat, SmolLM2HasADefaultSystemMessage) {
  EXPECT_EQ(render_chat(chatml(), kSmol, kHi),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(render_chat(chatml(), kSmol, kTalk),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n one <|im_end|>\n<|im_start|>assistant\ntwo"
            "<|im_end|>\n<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(render_chat(chatml(), kSmol, {}), "<|im_start|>assistant\n");
}

TEST(Chat, OtherChatMLHasNone) {
  const std::string plain = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
  EXPECT_EQ(render_chat(chatml(), kPlainChatml, kHi), plain);
  EXPECT_EQ(render_chat(chatml(), kSystemFromMessages, kHi), plain);
  EXPECT_EQ(render_chat(chatml(), "", kHi), plain);
}

TEST(Chat, DefaultSystemMessageWithEscapes) {
  EXPECT_EQ(render_chat(chatml(), R"({{ '<|im_start|>system\nDon\'t.<|im_end|>\n' }})", kHi),
            "<|im_start|>system\nDon't.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}

// What transformers rendered with the models' own templates (tests/data/chat/README.md).
TEST(Chat, RendersAsTheReference) {
  size_t files = 0, texts = 0;
  for (const auto& entry : std::filesystem::directory_iterator(test::data_path("chat"))) {
    if (entry.path().extension() != ".json") continue;
    ++files;
    const std::string name = entry.path().stem().string();
    const auto file = nlohmann::json::parse(read_file(entry.path()));
    std::string jinja;
    for (const auto& mark : file["marks"]) jinja += mark.get<std::string>() + "\n";
    const auto kind = recognise_chat_template(jinja);
    EXPECT_EQ(kind ? kind->name() : "", file["form"].is_null() ? "" : file["form"].get<std::string>()) << name;
    if (!kind) continue;
    for (const auto& row : file["cases"]) {
      std::vector<ChatMessage> messages;
      for (const auto& message : row["messages"]) messages.push_back({message["role"], message["content"]});
      const bool thinking = row["thinking"].get<bool>();
      if (row["text"].is_null()) {
        EXPECT_THROW(render_chat(*kind, jinja, messages, thinking), Error) << name;
      } else {
        EXPECT_EQ(render_chat(*kind, jinja, messages, thinking), row["text"].get<std::string>()) << name;
        ++texts;
      }
    }
  }
  EXPECT_GE(files, 25u);
  EXPECT_GE(texts, 70u);
}

TEST(Chat, RefusesWhatHasNoPlace) {
  const auto render = [](const char* name, const std::vector<ChatMessage>& messages, bool thinking = true) {
    return render_chat(chat_template_by_name(name), "", messages, thinking);
  };
  for (const char* name : {"llama2", "mistral-v1", "mistral-v3", "gemma", "gemma3"}) {
    EXPECT_THROW(render(name, {{"assistant", "x"}}), Error) << name;
    EXPECT_THROW(render(name, {{"user", "x"}, {"user", "y"}}), Error) << name;
    EXPECT_THROW(render(name, {{"system", "x"}}), Error) << name;
  }
  EXPECT_THROW(render("mistral-v3", {{"system", "x"}, {"user", "y"}, {"assistant", "z"}}), Error);
  EXPECT_THROW(render("gemma", {{"system", "x"}, {"user", "y"}}), Error);
  EXPECT_THROW(render("qwen3", {{"user", "x"}, {"assistant", "y"}}), Error);
  EXPECT_THROW(render("chatml", kHi, false), Error);  // no switch for thinking
  for (const std::string& name : chat_template_names())
    EXPECT_THROW(render(name.c_str(), {{"user", "x"}, {"tool", "y"}}), Error) << name;
}

TEST(Chat, BosOnlyWhereTheTemplateWritesIt) {
  const ChatTemplate llama3 = chat_template_by_name("llama3");
  EXPECT_TRUE(render_chat(llama3, "", kHi).starts_with("<|begin_of_text|><|start"));
  EXPECT_TRUE(render_chat(llama3, "bos_token", kHi).starts_with("<|begin_of_text|><|start"));
  EXPECT_TRUE(render_chat(llama3, "none", kHi).starts_with("<|start"));
}

TEST(Chat, NamesAndStops) {
  EXPECT_EQ(chat_template_by_name("llama3").name(), "llama3");
  try {
    chat_template_by_name("chatm");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find("chatml"), std::string::npos);
  }
  for (const std::string& name : chat_template_names())
    EXPECT_FALSE(chat_stop_strings(chat_template_by_name(name)).empty()) << name;
}

}  // namespace
}  // namespace whit
