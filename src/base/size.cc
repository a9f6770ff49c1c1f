#include "base/size.h"

#include <charconv>
#include <cmath>
#include <utility>

namespace whit {

std::optional<uint64_t> parse_size(const std::string& text) {
  static constexpr std::pair<const char*, double> kUnits[] = {
      {"", 1},     {"B", 1},        {"kB", 1e3},        {"KB", 1e3},          {"MB", 1e6},
      {"GB", 1e9}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}};
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || !std::isfinite(number)) return std::nullopt;
  const std::string unit(end, text.data() + text.size());
  for (const auto& [name, factor] : kUnits) {
    if (unit != name) continue;
    const double bytes = std::floor(number * factor);
    return bytes < 1 || bytes > 9e15 ? std::nullopt : std::optional(static_cast<uint64_t>(bytes));
  }
  return std::nullopt;
}

}  // namespace whit
