#include "cli/named_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/magic.h"
#include "base/names.h"
#include "data/text.h"

namespace whit {
namespace {

namespace fs = std::filesystem;

bool is_web_page(std::string_view head) {
  const std::string text = small_letters(std::string(head.substr(0, 256)));
  const size_t begin = text.find_first_not_of(" \t\r\n");
  return begin != std::string::npos &&
         (text.compare(begin, 14, "<!doctype html") == 0 || text.compare(begin, 5, "<html") == 0);
}

// What the first bytes say; empty: nothing that is known.
std::string kind_of(const std::string& name) {
  std::error_code none;
  if (!fs::is_regular_file(name, none)) return {};
  std::string head(512, '\0');
  std::ifstream file(name, std::ios::binary);
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  if (begins_as_safetensors(head)) return "weights (safetensors)";
  if (begins_as_pickle(head)) return "a pickle";
  if (const std::string_view packed = packed_as(head); packed == "zip")
    return "a zip archive: unpack it";
  else if (!packed.empty())
    return fmt::format("compressed ({}): unpack it", packed);
  static const std::pair<std::string_view, const char*> marks[] = {
      {"GGUF", "a model (GGUF)"},
      {"%PDF", "a PDF: save its text"},
      {"PAR1", "a table (Parquet): write its texts out"},
      {"\xff\xfe", "UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8)"},
      {"\xfe\xff", "UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8)"},
  };
  for (const auto& [mark, kind] : marks)
    if (head.starts_with(mark)) return kind;
  if (const std::string_view kind = foreign_kind(head); !kind.empty()) return std::string(kind);
  return is_web_page(head) ? "a web page (HTML): fetch the file itself" : "";
}

}  // namespace

void reading_file(const std::string& option, const std::string& name, const std::string& wanted,
                  const std::string& absent, const std::function<void()>& read) {
  try {
    read();
  } catch (const Error& error) {
    std::error_code none;
    const std::string wants = option + " takes " + wanted;
    std::string hint;
    if (name == "-") {
      hint = "standard input is called /dev/stdin here";
    } else if (name.find("://") != std::string::npos) {
      hint = "this is an address: fetch it first and give the file";
    } else if (!fs::exists(name, none) && error.kind() == ErrorKind::io) {
      hint = absent.empty() ? "check the path: " + wants : absent;
    } else if (fs::is_directory(name, none)) {
      hint = wants + ": give the file in it";
    } else if (const std::string kind = kind_of(name);
               !kind.empty() && error.hint().find("git lfs") == std::string::npos) {
      hint = "the file is " + kind + "; " + wants;
    }
    // What else can be said of a text that is none: it is in another encoding.
    if (hint.empty() && error.message().find("not valid UTF-8") != std::string::npos)
      hint = "save it as UTF-8 (of Latin-1: iconv -f ISO-8859-1 -t UTF-8)";
    if (hint.empty()) throw;
    throw Error(error.kind(), error.message(), error.where(), error.found(), hint);
  }
}

std::string named_data(const std::string& data) {
  if (data == "self+" || data == "self+self" || data.starts_with("self+self+"))
    throw Error(ErrorKind::usage, "there is no text behind self+", "--data", data, "self, or self+FILE");
  if (data == "-") return "/dev/stdin";
  return data == "self+-" ? "self+/dev/stdin" : data;
}

std::string data_file(const std::string& data) {
  const std::string name = data.starts_with("self+") ? data.substr(5) : data;
  return name == "self" || name == "novels" || name == "auto" ? "" : name;
}

std::string read_text_of(const std::string& option, const std::string& name, Progress& progress) {
  std::string text;
  const std::string word = small_letters(name);
  const bool of_data = word == "novels" || word == "self" || word == "auto" || word.starts_with("self+");
  std::string absent;
  if (option == "--data" && of_data)
    absent = "in small letters: --data " + word;
  else if (option == "--data" && word.find("novels") != std::string::npos)
    absent = "a plain text file, novels, self, self+FILE or auto";
  else if (option == "--text" && of_data)
    absent = "that is a text of --data; without --text the Jargon File is read";
  else if (name.find(' ') != std::string::npos)
    absent = option == "--file" ? "a prompt is given with -p: -p \"" + name + "\""
                                : option + " takes the name of a file, not a text; - reads standard input";
  reading_file(option, name, "a plain text (UTF-8)", absent, [&] { text = read_text(name); });
  if (text.starts_with(kByteOrderMark)) progress.note(name + " begins with a byte order mark, which is read as text");
  if (text.find("\r\n") != std::string::npos)
    progress.note(name + " has lines that end in CR LF: both are read as text");
  if (is_web_page(text)) progress.note(name + " is a web page (HTML): its tags are read as text");
  return text;
}

}  // namespace whit
