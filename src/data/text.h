// Texts: plain files, and the default ones that set-up installs as Debian packages.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace whit {

// `text` itself. Empty, NUL bytes or invalid UTF-8: ErrorKind::input with `where` and the byte offset.
std::string checked_text(std::string text, const std::string& where);

// A plain text file, or a pipe, which is kept; checked.
std::string read_text(const std::filesystem::path& path);

// Default texts are looked for in the folder that WHIT_DATA names, in .whit/data of the folders above the program, in
// ../share/whit/data beside it, where the Debian package puts them, and in .whit/data here.
// The six novels of the package r-cran-janeaustenr (decoded from its R data file), lines joined by newlines, books in
// alphabetical order of their R names. Missing package: ErrorKind::io that names it. `rdb_folder` for tests.
std::string default_calibration_text(const std::filesystem::path& data_folder = {});
// What a recipe calls its text: "novels", or a plain text file. "text" stands in manifests for a text of the user's own, whose
// name is not kept: ErrorKind::usage at `where`, such as "tune: data".
std::string named_text(const std::string& name, const std::string& where);
// The Jargon File of the package jargon-text.
std::string default_judging_text(const std::filesystem::path& gz = {});

// Windows of `context` ids for calibration: the text is tokenized whole (without BOS), cut into windows without overlap
// (BOS first where the tokenizer adds one), and tokens / context of them are drawn without replacement by `seed`, in
// text order. Fewer tokens in the text than asked: ErrorKind::input that says how many there are.
struct CalibrationWindows {
  uint64_t context = 0;
  std::vector<std::vector<int32_t>> windows;
  std::string hash;                  // hex, over the ids
  std::vector<int32_t> ids() const;  // of all windows, one after the other
};
CalibrationWindows calibration_windows(const Tokenizer& tokenizer, std::string_view text, uint64_t tokens,
                                       uint64_t context, uint64_t seed);
// The same from the ids of the whole text (`bos` -1: none), for whoever draws more than once.
CalibrationWindows calibration_windows(std::span<const int32_t> ids, int32_t bos, uint64_t tokens, uint64_t context,
                                       uint64_t seed);

}  // namespace whit
