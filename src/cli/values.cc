#include "cli/values.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <optional>

#include "base/error.h"

namespace whit {
namespace {

template <class Number>
std::optional<Number> number_in(const std::string& text, Number least, Number most) {
  Number value{};
  const char *end = text.data() + text.size(), *begin = text.data() + (text.size() > 1 && text[0] == '+');
  const auto [stop, error] = std::from_chars(begin, end, value);
  // Written so that NaN is in no range.
  if (error != std::errc() || stop != end || !(value >= least && value <= most)) return std::nullopt;
  return value;
}

std::string range_text(int64_t least, int64_t most) {
  return most == std::numeric_limits<int64_t>::max() ? fmt::format("{} or more", least)
                                                     : fmt::format("{} to {}", least, most);
}

}  // namespace

CLI::Validator whole_number(int64_t least, int64_t most) {
  const std::string range = range_text(least, most);
  return {[=](std::string& text) {
            const auto value = number_in<int64_t>(text, least, most);
            if (!value) return fmt::format("'{}' is no whole number, {}", text, range);
            text = std::to_string(*value);  // CLI11 would take 010 as eight
            return std::string();
          },
          range};
}

CLI::Validator real_number(double least, double most) {
  const std::string range = fmt::format("{} to {}", least, most);
  return {[=](std::string& text) {
            return number_in(text, least, most) ? std::string() : fmt::format("'{}' is no number, {}", text, range);
          },
          range};
}

std::vector<int> whole_numbers(const std::string& option, const std::string& text, int least, int most) {
  std::vector<int> numbers;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const auto number = number_in<int64_t>(text.substr(begin, end - begin), least, most);
    if (!number)
      throw Error(ErrorKind::usage, "not a list of whole numbers", option, text,
                  fmt::format("numbers of {} with commas between them: 1,2", range_text(least, most)));
    numbers.push_back(static_cast<int>(*number));
    begin = end + 1;
  }
  return numbers;
}

CLI::Option* repeatable(CLI::Option* option) {
  return option->expected(1)->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

}  // namespace whit
