#include "base/json.h"

#include <unordered_set>
#include <vector>

#include "base/error.h"

namespace whit {

nlohmann::json parse_json(std::string_view text, const std::string& where, int depth) {
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::unordered_set<std::string>> open;  // keys of the objects around the current place
  const auto watch = [&](int level, Event event, nlohmann::json& value) {
    if (level > depth)
      throw Error(ErrorKind::input, "the JSON is nested too deeply", where, {},
                  "at most " + std::to_string(depth) + " levels are read");
    if (event == Event::object_start) open.emplace_back();
    if (event == Event::object_end) open.pop_back();
    if (event == Event::key && !open.back().insert(value.get_ref<const std::string&>()).second)
      throw Error(ErrorKind::input, "a JSON key is there twice", where,
                  value.get_ref<const std::string&>().substr(0, 200));
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), watch);
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::input, "this is not valid JSON", where, error.what());
  }
}

}  // namespace whit
