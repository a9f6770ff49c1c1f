#include "base/size.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <span>
#include <string_view>

#include "base/error.h"
#include "base/names.h"

namespace whit {
namespace {

struct Unit {
  std::string_view name;  // in small letters
  double factor;
};

constexpr Unit kSizeUnits[] = {{"", 1},         {"b", 1},           {"k", 1e3},           {"kb", 1e3},
                               {"m", 1e6},      {"mb", 1e6},        {"g", 1e9},           {"gb", 1e9},
                               {"kib", 1024.0}, {"mib", 1048576.0}, {"gib", 1073741824.0}};
constexpr Unit kCountUnits[] = {{"", 1}, {"k", 1e3}, {"m", 1e6}, {"g", 1e9}};

// A whole number from 1 to `most`; what units make of a fraction is rounded down, a fraction without one is no number.
std::optional<uint64_t> parse(const std::string& text, std::span<const Unit> units, double most) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || !std::isfinite(number)) return std::nullopt;
  const std::string name = small_letters({end, text.data() + text.size()});
  const auto unit = std::find_if(units.begin(), units.end(), [&](const Unit& known) { return known.name == name; });
  if (unit == units.end()) return std::nullopt;
  // "1.001k" is 1001 though the product is a little less.
  const double product = number * unit->factor, near = std::round(product);
  const double whole = std::abs(product - near) < 1e-6 ? near : std::floor(product);
  if (whole < 1 || whole > most || (unit->factor == 1 && whole != number)) return std::nullopt;
  return static_cast<uint64_t>(whole);
}

}  // namespace

std::optional<uint64_t> parse_size(const std::string& text) { return parse(text, kSizeUnits, 9e15); }

int64_t parse_count(const std::string& text, const std::string& where) {
  const auto count = parse(text, kCountUnits, 1e12);
  if (!count) throw Error(ErrorKind::usage, "not a number of tokens", where, text, kCountHint);
  return static_cast<int64_t>(*count);
}

}  // namespace whit
