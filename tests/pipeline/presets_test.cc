// Every preset on every model of tests/data.
#include "pipeline/models.h"

namespace whit {
namespace {

using namespace tests;

TEST_P(Models, EveryPresetGivesTheSameByBothExecutors) { expect_presets(every_preset()); }

INSTANTIATE_TEST_SUITE_P(All, Models, testing::ValuesIn(reference_models()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace whit
