// The default model's tokenizer, against ids that Hugging Face's library gave for the same vocabulary and merges.
// Skipped where set-up has not fetched the model.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "data/chat.h"
#include "data/text.h"
#include "data/tokenizer.h"
#include "format/gguf.h"

namespace whit {
namespace {

using Ids = std::vector<int32_t>;

class DefaultModel : public testing::Test {
 protected:
  void SetUp() override {
    const auto path = std::filesystem::path(WHIT_SOURCE_DIR) / ".whit/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
    metadata_ = GgufFile::open(path).metadata;
    tokenizer_ = make_tokenizer(metadata_);
  }
  KeyValues metadata_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_F(DefaultModel, KnownIds) {
  EXPECT_EQ(tokenizer_->encode("The quick brown fox jumps over 13 lazy dogs.", true, true),
            (Ids{504, 2365, 6354, 16438, 27003, 690, 216, 33, 35, 23790, 5046, 30}));
  EXPECT_EQ(tokenizer_->encode("  def f(x):\n\treturn x ** 2\n\n", true, true),
            (Ids{216, 753, 275, 24, 104, 727, 198, 197, 5406, 1792, 1903, 216, 34, 1116}));
  EXPECT_EQ(tokenizer_->encode("naïve café, 日本語 😀!", true, true),
            (Ids{3546, 46494, 37366, 28, 17097, 241, 115, 40993, 179, 120, 248, 40303, 218, 17}));
  EXPECT_EQ(tokenizer_->encode("<|im_start|>user\nHi there<|im_end|>\n", true, true),
            (Ids{1, 4093, 198, 26843, 665, 2, 198}));
  EXPECT_EQ(tokenizer_->encode("it's DON'T  \u00a0 ½", true, true),
            (Ids{269, 506, 422, 2154, 23, 68, 256, 15442, 216, 16738}));
  EXPECT_EQ(tokenizer_->encode("supercalifragilisticexpialidocious", true, true),
            (Ids{14174, 5020, 342, 1808, 301, 40482, 104, 96, 409, 311, 42288}));
}

TEST_F(DefaultModel, Ends) {
  EXPECT_EQ(tokenizer_->bos(), -1);  // the file says add_bos_token = false
  EXPECT_EQ(tokenizer_->ends(), (Ids{0, 2}));
  EXPECT_EQ(tokenizer_->vocabulary(), 49152u);
  EXPECT_EQ(tokenizer_->kind(), "byte-level BPE, smollm, 49152 tokens");
}

TEST_F(DefaultModel, ChatTemplate) {
  const ChatTemplate chat(tokenizer_->chat_template());
  const std::string prompt = chat.render(Json::array({{{"role", "user"}, {"content", "hi"}}}));
  EXPECT_EQ(prompt,
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  const Ids ids = tokenizer_->encode(prompt, true, true);
  EXPECT_EQ(ids.front(), 1);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 1), 3);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 2), 2);
}

// Real text comes back whole.
TEST_F(DefaultModel, JargonFileRoundTrips) {
  std::string text;
  try {
    text = default_judging_text();
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  EXPECT_TRUE(tokenizer_->decode(tokenizer_->encode(text, false, false), false) == text);
}

}  // namespace
}  // namespace whit
