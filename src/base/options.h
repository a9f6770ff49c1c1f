// Options as plain structs. A struct describes its fields once, in
//   template <class V> void visit(V& v) { v("bits", bits, "bits of a code", {2, 8}); ... }
// and gets from it: reading from JSON or TOML (unknown keys refused with the nearest known one), defaults, normalized
// output for the manifest, and the text of `methods describe`.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/names.h"

namespace whit {

using Json = nlohmann::ordered_json;

// Both ends belong to the range. Checked for integers and reals.
struct Range {
  double least = std::numeric_limits<double>::lowest();
  double most = std::numeric_limits<double>::max();
};

// The strings that an option may take.
struct Choices {
  std::vector<std::string> names;
};

namespace options_detail {

// `where` of an error, e.g. "step 2 (gptq): bits".
[[noreturn]] void bad_value(const std::string& where, const std::string& found, const std::string& hint);
void read(const Json& json, const std::string& where, const Range& range, bool& field);
void read(const Json& json, const std::string& where, const Range& range, int64_t& field);
void read(const Json& json, const std::string& where, const Range& range, double& field);
void read(const Json& json, const std::string& where, const Choices& choices, std::string& field);
void read(const Json& json, const std::string& where, const Range&, std::string& field);
inline void read(const Json& json, const std::string& where, const Range& range, int& field) {
  int64_t wide = field;
  read(json, where, {std::max(range.least, -2147483648.0), std::min(range.most, 2147483647.0)}, wide);
  field = static_cast<int>(wide);
}

struct Reader {
  const Json& json;
  const std::string& where;
  std::vector<std::string> known;
  template <class Field, class Limit = Range>
  void operator()(const char* name, Field& field, const char*, const Limit& limit = {}) {
    known.push_back(name);
    if (const auto found = json.find(name); found != json.end()) read(*found, where + ": " + name, limit, field);
  }
  void operator()(const char* name, std::string& field, const char*, const Choices& choices) {
    known.push_back(name);
    if (const auto found = json.find(name); found != json.end()) read(*found, where + ": " + name, choices, field);
  }
};

struct Writer {
  Json json = Json::object();
  template <class Field, class Limit = Range>
  void operator()(const char* name, Field& field, const char*, const Limit& = {}) {
    json[name] = field;
  }
};

void check_known(const Json& json, const std::string& where, const std::vector<std::string>& known);

}  // namespace options_detail

// One line of `methods describe`.
struct OptionDescription {
  std::string name, text, fallback, limits;
};

namespace options_detail {
std::string limits_text(const Range& range, bool numeric);
std::string limits_text(const Choices& choices, bool numeric);
struct Describer {
  std::vector<OptionDescription> lines;
  template <class Field, class Limit = Range>
  void operator()(const char* name, Field& field, const char* text, const Limit& limit = {}) {
    constexpr bool numeric = std::is_arithmetic_v<Field> && !std::is_same_v<Field, bool>;
    lines.push_back({name, text, Json(field).dump(), limits_text(limit, numeric)});
  }
};
}  // namespace options_detail

// Overwrites the fields that `json` names. Throws ErrorKind::usage for an unknown key, a wrong type, a value out of range.
template <class Options>
void read_options(Options& options, const Json& json, const std::string& where) {
  if (!json.is_object()) options_detail::bad_value(where, json.dump(), "a table of options is wanted here");
  options_detail::Reader reader{json, where, {}};
  options.visit(reader);
  options_detail::check_known(json, where, reader.known);
}

// All fields, in the order of visit(): the normalized form that the manifest keeps.
template <class Options>
Json write_options(Options options) {
  options_detail::Writer writer;
  options.visit(writer);
  return std::move(writer.json);
}

template <class Options>
std::vector<OptionDescription> describe_options() {
  Options options;
  options_detail::Describer describer;
  options.visit(describer);
  return std::move(describer.lines);
}

}  // namespace whit
