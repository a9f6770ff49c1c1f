// Every option of every method refuses a wrong type, a value out of range, an unknown name, with a message that names
// it.
#include <gtest/gtest.h>

#include "methods/stages.h"

namespace whit {
namespace {

std::unique_ptr<Method> make_any(const MethodRow& row, const Json& options) {
  if (row.stage == Stage::basis) return make_basis(row.name, options);
  if (row.stage == Stage::quantize) return make_quantizer(row.name, options);
  if (row.stage == Stage::importance) return make_importance(row.name, options);
  if (row.stage == Stage::prune) return make_pruner(row.name, options);
  if (row.stage == Stage::allocate) return make_allocator(row.name, options);
  if (row.stage == Stage::transform) return make_transform(row.name, options);
  if (row.stage == Stage::reconstruct) return make_reconstructor(row.name, options);
  if (row.stage == Stage::tune) return make_tuner(row.name, options);
  ADD_FAILURE() << "a stage without a factory here: " << row.name;
  return nullptr;
}

void expect_refused(const MethodRow& row, const Json& options, const std::string& named) {
  try {
    make_any(row, options);
    ADD_FAILURE() << row.name << " takes " << options.dump();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(row.name), std::string::npos) << error.what();
  }
}

TEST(OptionLaws, NonsenseIsRefused) {
  for (const MethodRow& row : method_rows()) {
    expect_refused(row, {{"no_such_option", 1}}, "no_such_option");
    expect_refused(row, Json::array({1}), row.name);
    for (const OptionDescription& option : row.options) {
      expect_refused(row, {{option.name, Json::array()}}, option.name);
      expect_refused(row, {{option.name, nullptr}}, option.name);
      const Json fallback = Json::parse(option.fallback);
      if (fallback.is_string())
        expect_refused(row, {{option.name, "no such choice"}}, option.name);
      else
        expect_refused(row, {{option.name, "text"}}, option.name);
      if (fallback.is_boolean()) expect_refused(row, {{option.name, 1}}, option.name);
      if (fallback.is_number()) {
        EXPECT_FALSE(option.limits.empty()) << row.name << ": " << option.name << " has no range";
        expect_refused(row, {{option.name, -1}}, option.name);
        expect_refused(row, {{option.name, 1e300}}, option.name);
      }
    }
  }
}

TEST(OptionLaws, NormalizedOptionsMakeTheSameMethod) {
  for (const MethodRow& row : method_rows()) {
    const Json options = make_any(row, Json::object())->options();
    EXPECT_EQ(options.size(), row.options.size()) << row.name;
    for (const OptionDescription& option : row.options) EXPECT_EQ(options.at(option.name).dump(), option.fallback);
    EXPECT_EQ(make_any(row, options)->options(), options) << row.name;
  }
}

}  // namespace
}  // namespace whit
