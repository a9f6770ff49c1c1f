// Any text is a recipe that survives being written and read again, or a usage Error.
#include "base/error.h"
#include "base/json.h"
#include "pipeline/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace whit;
  try {
    const Recipe recipe = parse_recipe({reinterpret_cast<const char*>(data), size}, "fuzz");
    const Json json = recipe_to_json(recipe);
    if (recipe_to_json(parse_recipe(recipe_to_toml(recipe), "again")) != json) __builtin_trap();
    UnitSpec unit;
    unit.name = "blk.1.ffn_down.weight";
    unit.kind = "ffn_down";
    unit.block = 1;
    unit.rows = unit.cols = 64;
    try {
      steps_for(recipe, unit);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::usage) __builtin_trap();
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::usage) __builtin_trap();
  }
  return 0;
}
