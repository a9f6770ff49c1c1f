#include "cli/presets.h"

#include <algorithm>
#include <sstream>

#include "pipeline/recipe.h"

namespace whit {

std::vector<PresetCard> preset_cards() {
  std::vector<PresetCard> cards;
  for (const Preset& preset : presets()) {
    std::istringstream lines(preset.text);
    std::string comment;
    for (std::string line; std::getline(lines, line) && line.starts_with("# ");)
      comment += (comment.empty() ? "" : " ") + line.substr(2);
    const size_t colon = comment.find(": ");
    WHIT_CHECK(colon != std::string::npos);
    const std::string text = comment.substr(colon + 2);
    cards.push_back({preset.name, comment.substr(0, colon), text.substr(0, text.find(". "))});
    if (cards.back().text.ends_with('.')) cards.back().text.pop_back();
  }
  std::stable_partition(cards.begin(), cards.end(), [](const PresetCard& card) { return card.group == "everyday"; });
  return cards;
}

}  // namespace whit
