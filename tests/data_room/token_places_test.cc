// Tokens that a folder's files name in two places, against what transformers 5 makes of each pair
// (tools/make_token_places.py).
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/tokenizer.h"
#include "data_room/fixtures.h"

namespace whit {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

const json& places() {
  static const json read = json::parse(read_file(test::data_path("token_places.json")));
  return read;
}

std::map<std::string, std::string> files_of(const json& row) {
  auto files = test::tokenizer_files("llama_gqa");
  json top = json::parse(files["tokenizer.json"]);
  for (const json& token : row["change"]["added_tokens"]) top["added_tokens"].push_back(token);
  top["model"]["vocab"].update(row["change"]["vocab"]);
  top["padding"] = row["change"]["padding"];
  files["tokenizer.json"] = top.dump();
  for (const auto& [name, text] : row["files"].items()) files[name] = text;
  return files;
}

void expect_row(const Tokenizer& tokenizer, const json& row) {
  for (size_t i = 0; i < places()["texts"].size(); ++i) {
    const auto text = places()["texts"][i].get<std::string>();
    const Ids ids = row["ids"][i].get<Ids>();
    EXPECT_EQ(tokenizer.encode(text, true, true), ids) << text;
    EXPECT_EQ(tokenizer.decode(ids, true), row["spoken"][i].get<std::string>()) << text;
  }
  if (row["eos"].is_number()) {
    const Ids ends = tokenizer.ends();
    EXPECT_TRUE(std::find(ends.begin(), ends.end(), row["eos"].get<int32_t>()) != ends.end());
  }
}

TEST(TokenPlaces, EveryPairIsAsInTransformersOrRefused) {
  size_t refused = 0;
  for (const json& row : places()["cases"]) {
    SCOPED_TRACE(row["name"].get<std::string>());
    const auto files = files_of(row);
    if (row.contains("refused")) {  // a place says an id that the token does not get
      ++refused;
      try {
        make_tokenizer(files);
        ADD_FAILURE() << "was read";
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::input);
        EXPECT_NE(std::string(error.what()).find("<|"), std::string::npos) << error.what();
      }
      continue;
    }
    expect_row(*make_tokenizer(files), row);
    // The same from the GGUF keys, and from the folder that is made of them.
    const KeyValues keys = tokenizer_metadata(files, 1030);
    expect_row(*make_tokenizer(keys), row);
    expect_row(*make_tokenizer(tokenizer_files(keys)), row);
    if (row["pad"].is_number()) EXPECT_EQ(keys.unsigned_integer("tokenizer.ggml.padding_token_id"), row["pad"]);
  }
  EXPECT_GT(refused, 10u);
  EXPECT_GT(places()["cases"].size(), 200u);
}

}  // namespace
}  // namespace whit
