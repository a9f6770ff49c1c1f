#include "base/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace whit::options_detail {

void bad_value(const std::string& where, const std::string& found, const std::string& hint) {
  throw Error(ErrorKind::usage, "an option has a value that it cannot take", where, found, hint);
}

std::string limits_text(const Range& range, bool numeric) {
  if (!numeric) return {};
  const bool low = range.least > std::numeric_limits<double>::lowest();
  const bool high = range.most < std::numeric_limits<double>::max();
  if (low && high) return fmt::format("{} to {}", range.least, range.most);
  if (low) return fmt::format("at least {}", range.least);
  if (high) return fmt::format("at most {}", range.most);
  return {};
}

std::string limits_text(const Choices& choices, bool) { return fmt::format("{}", fmt::join(choices.names, " | ")); }

namespace {

void check_range(double value, const Range& range, const std::string& where, const Json& json) {
  // Written so that NaN fails too.
  if (!(value >= range.least && value <= range.most)) bad_value(where, json.dump(), "allowed: " + limits_text(range, true));
}

}  // namespace

void read(const Json& json, const std::string& where, const Range&, bool& field) {
  if (!json.is_boolean()) bad_value(where, json.dump(), "true or false is wanted here");
  field = json.get<bool>();
}

void read(const Json& json, const std::string& where, const Range& range, int64_t& field) {
  if (!json.is_number_integer()) bad_value(where, json.dump(), "an integer is wanted here");
  if (json.is_number_unsigned() && json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    bad_value(where, json.dump(), "allowed: " + limits_text(range, true));
  check_range(static_cast<double>(json.get<int64_t>()), range, where, json);
  field = json.get<int64_t>();
}

void read(const Json& json, const std::string& where, const Range& range, double& field) {
  if (!json.is_number()) bad_value(where, json.dump(), "a number is wanted here");
  check_range(json.get<double>(), range, where, json);
  field = json.get<double>();
}

void read(const Json& json, const std::string& where, const Choices& choices, std::string& field) {
  if (!json.is_string()) bad_value(where, json.dump(), "allowed: " + limits_text(choices, false));
  const std::string text = json.get<std::string>();
  for (const std::string& name : choices.names)
    if (name == text) {
      field = text;
      return;
    }
  bad_value(where, json.dump(), suggest_name(text, choices.names));
}

void read(const Json& json, const std::string& where, const Range&, std::string& field) {
  if (!json.is_string()) bad_value(where, json.dump(), "a string is wanted here");
  field = json.get<std::string>();
}

void check_known(const Json& json, const std::string& where, const std::vector<std::string>& known) {
  for (const auto& [key, value] : json.items())
    if (std::find(known.begin(), known.end(), key) == known.end())
      throw Error(ErrorKind::usage, "unknown option", where, key, suggest_name(key, known));
}

}  // namespace whit::options_detail
