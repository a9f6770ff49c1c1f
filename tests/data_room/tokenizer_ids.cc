// What tools/compare_tokenizers.py asks of our tokenizers: no test, a program over standard input and output.
//
//   tokenizer_ids FOLDER|FILE.gguf [WAY]
//
// WAY keys: of the GGUF keys that are written for the folder; files: of the folder that is written for a GGUF's keys (a
// folder's: those that are written for it); back: of the keys that are written for that.
//   tokenizer_ids FILE.gguf folder OUT        writes the tokenizer's files into the folder OUT, and answers nothing
//   tokenizer_ids FILE.json splits            a pre_tokenizer: answers with the pieces of a text in hexadecimal, or why
//   not
//
// A line in: a text's bytes in hexadecimal. A line out: JSON with the ids with and without what is put at the ends, and
// the bytes of their decoding and of their pieces in hexadecimal.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "data/pre_tokenizers/json_form.h"
#include "data/tokenizer.h"
#include "format/gguf.h"

namespace whit {
namespace {

std::shared_ptr<const Tokenizer> open_tokenizer(const std::filesystem::path& path, const std::string& way) {
  KeyValues keys;
  if (std::filesystem::is_directory(path)) {
    std::map<std::string, std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(path))
      if (const std::string name = entry.path().filename().string();
          (entry.is_regular_file() && is_tokenizer_file(name)) || name == "config.json")
        files[name] = read_file(entry.path());
    const auto tokenizer = make_tokenizer(files);
    if (way.empty()) return tokenizer;
    keys = tokenizer_metadata(files, tokenizer->vocabulary() + 3);
  } else {
    keys = GgufFile::open(path).metadata;
  }
  if (way.empty() || way == "keys") return make_tokenizer(keys);
  const auto files = tokenizer_files(keys);
  const auto tokenizer = make_tokenizer(files);
  return way == "files" ? tokenizer : make_tokenizer(tokenizer_metadata(files, tokenizer->vocabulary() + 3));
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

std::string to_hex(const std::string& bytes) {
  std::string hex;
  for (const char c : bytes)
    for (const int half : {static_cast<unsigned char>(c) >> 4, c & 15}) hex.push_back("0123456789abcdef"[half]);
  return hex;
}

void cut(std::string_view text, std::span<const Split> splits, std::string& pieces) {
  if (splits.empty()) {
    pieces += (pieces.empty() ? "" : " ") + to_hex(std::string(text));
    return;
  }
  const Split& split = splits.front();
  if (const Splitter splitter = split.splitter())
    for (size_t length = 0; !text.empty(); text.remove_prefix(length))
      cut(text.substr(0, length = splitter(text)), splits.subspan(1), pieces);
  else
    for (const auto& [begin, end] : split.pieces(text)) cut(text.substr(begin, end - begin), splits.subspan(1), pieces);
}

int answer_splits(const char* path) {
  const std::vector<SplitStep> steps = read_pre_tokenizer(nlohmann::json::parse(read_file(path)));
  const std::vector<Split> splits(steps.begin(), steps.end());
  for (std::string line; std::getline(std::cin, line);) {
    std::string pieces;
    if (!line.empty()) cut(from_hex(line), splits, pieces);
    std::cout << nlohmann::json(pieces).dump() << "\n";
  }
  return 0;
}

int answer(int count, char** arguments) {
  if (count == 3 && std::string_view(arguments[2]) == "splits") return answer_splits(arguments[1]);
  if (count == 4 && std::string_view(arguments[2]) == "folder") {
    for (const auto& [name, text] : tokenizer_files(GgufFile::open(arguments[1]).metadata))
      std::ofstream(std::filesystem::path(arguments[3]) / name) << text;
    return 0;
  }
  const auto tokenizer = open_tokenizer(arguments[1], count > 2 ? arguments[2] : "");
  for (std::string line; std::getline(std::cin, line);) {
    const std::string text = from_hex(line);
    const std::vector<int32_t> ids = tokenizer->encode(text, false, true);
    std::string pieces;
    for (const int32_t id : ids) pieces += tokenizer->piece(id);
    std::cout << nlohmann::json{{"ends", tokenizer->encode(text, true, true)},
                                {"ids", ids},
                                {"decoded", to_hex(tokenizer->decode(ids, false))},
                                {"spoken", to_hex(tokenizer->decode(ids, true))},
                                {"pieces", to_hex(pieces)}}
                     .dump()
              << "\n";
  }
  return 0;
}

}  // namespace
}  // namespace whit

int main(int count, char** arguments) {
  try {
    return count < 2 ? 2 : whit::answer(count, arguments);
  } catch (const whit::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
