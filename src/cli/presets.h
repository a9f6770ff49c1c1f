// The presets as people choose them.
#pragma once

#include <string>
#include <vector>

namespace whit {

struct PresetCard {
  std::string name, group;  // group: everyday, research
  std::string text;         // one line: what it makes
};

// From the comment that begins each of recipes/*.toml, "# GROUP: what it makes. More.": its first sentence. Everyday ones
// first.
std::vector<PresetCard> preset_cards();

}  // namespace whit
