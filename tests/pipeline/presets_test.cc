// Every preset on every model of tests/data.
#include "pipeline/models.h"

namespace whit {
namespace {

using namespace tests;

TEST_P(Models, EveryPresetGivesTheSameByBothExecutors) {
  std::vector<std::string> names;
  for (const Preset& preset : presets())
    if (preset.name != "fit") names.push_back(preset.name);  // needs a size: FitsASize
  expect_presets(names);
}

INSTANTIATE_TEST_SUITE_P(All, Models, testing::ValuesIn(reference_models()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace whit
