#include "base/magic.h"

#include <utility>

namespace whit {

std::string_view packed_as(std::string_view head) {
  using Row = std::pair<std::string_view, std::string_view>;
  for (const auto& [mark, name] : {Row{"PK\x03\x04", "zip"},
                                   {"\x1f\x8b", "gzip"},
                                   {"BZh", "bzip2"},
                                   {"\xfd"
                                    "7zXZ",
                                    "xz"},
                                   {"\x28\xb5\x2f\xfd", "zstd"},
                                   {"7z\xbc\xaf", "7z"},
                                   {"Rar!", "rar"}})
    if (head.starts_with(mark)) return name;
  return {};
}

bool begins_as_pickle(std::string_view head) {
  return head.size() > 2 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5;
}

bool begins_as_safetensors(std::string_view head) {
  return head.size() > 8 && head[8] == '{' && head.substr(4, 4) == std::string_view("\0\0\0\0", 4);
}

std::string_view foreign_kind(std::string_view head) {
  constexpr std::pair<std::string_view, std::string_view> kMarks[] = {
      {"\x89HDF", "HDF5 (Keras, TensorFlow)"},
      {"\x93NUMPY", "a NumPy array"},
      {"\x89PNG", "a picture (PNG)"},
      {"\xff\xd8\xff", "a picture (JPEG)"},
      {"%PDF", "a PDF"},
      {"PAR1", "a table (Parquet)"},
      {"SQLite format 3", "a database (SQLite)"},
      {"\x7f"
       "ELF",
       "a program (ELF)"},
  };
  for (const auto& [mark, kind] : kMarks)
    if (head.starts_with(mark)) return kind;
  return {};
}

}  // namespace whit
