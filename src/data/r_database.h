// R's lazy-load database: the data sets of an R package in two files, NAME.rdx (index) and NAME.rdb (data).
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace whit {

// Every variable that is a vector of strings, by its name. Damaged files: ErrorKind::input.
std::map<std::string, std::vector<std::string>> read_r_strings(const std::filesystem::path& rdx,
                                                               const std::filesystem::path& rdb);

}  // namespace whit
