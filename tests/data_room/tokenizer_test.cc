// Tokenizers against what Hugging Face's library made of the same texts.
#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data_room/fixtures.h"

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
  expect_reference(*make_tokenizer(keys), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Folders, Reference, testing::ValuesIn(test::kFolders),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace whit
