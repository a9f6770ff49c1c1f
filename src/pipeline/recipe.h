// A recipe: what is done to which tensors, in which format. Read from TOML (a file, or a preset compiled in), kept in
// the manifest as JSON, written back as TOML; the three forms say the same.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/options.h"
#include "format/format.h"
#include "methods/stages.h"
#include "pipeline/training_text.h"

namespace whit {

// What methods look at unless a recipe or --data says another text: settled_text() says which one a model gets.
inline constexpr const char* kUsualText = "auto";

// [calibrate]: the text that methods look at.
struct CalibrateOptions {
  std::string data = kUsualText;  // or "novels", "self", a plain text file, "self+FILE"
  std::string data_hash;          // set in a resolved recipe: hash of the drawn token windows, checked when used again
  int tokens = 8192;
  int context = 512;
  int64_t seed = 0;
  std::string prefix =
      "compressed";  // whose activations a block sees: those of the compressed blocks before it, or the original's

  template <class V>
  void visit(V& v) {
    v("data", data, "a plain text file, novels, self (the original writes it), self+FILE, or auto: self+novels for a model with a chat "
      "template, else novels");
    v("data_hash", data_hash, "hash of the token windows that this recipe was made with");
    v("tokens", tokens, "calibration tokens", Range{1, 1e9});
    v("context", context, "tokens of a calibration window", Range{2, 1e6});
    v("seed", seed, "draws the windows", Range{0, 9e15});
    v("prefix", prefix, "inputs of a block", Choices{{"compressed", "original"}});
  }
};

// [[step]]: one method on the units that its globs match.
struct Step {
  std::string method;                // a row of methods.def
  std::vector<std::string> tensors;  // globs over unit and member names; for whole-model stages unused
  FormatPtr format;                  // quantize: the target
  Json options = Json::object();     // the method's own options, normalized
  // allocate: the formats to choose from for linears and for embedding and output, the quantizer, and the file's bytes.
  std::vector<FormatPtr> formats, embedding_formats;
  std::string quantizer;
  uint64_t budget = 0;
};

struct Recipe {
  CalibrateOptions calibrate;
  TuneOptions tune;  // [tune]: for a tune step
  bool tune_given = false;
  std::vector<Step> steps;
};

// Throws ErrorKind::usage (names `where` and the place) for everything that is not a recipe: unknown keys with the
// nearest known one, methods, formats, globs that are no strings.
Recipe parse_recipe(std::string_view toml, const std::string& where);
Recipe recipe_from_json(const Json& json, const std::string& where);
Recipe read_recipe(const std::filesystem::path& path);
Json recipe_to_json(const Recipe& recipe);
std::string recipe_to_toml(const Recipe& recipe);

// The recipes under recipes/, compiled in: name -> TOML text.
struct Preset {
  std::string name, text;
};
const std::vector<Preset>& presets();
Recipe preset_recipe(const std::string& name);

// The step that puts the whole model into another basis before anything else, or null.
const Step* basis_step(const Recipe& recipe);
// The step that chooses the formats by measured losses, or null.
const Step* allocate_step(const Recipe& recipe);
// The step that trains each block inside the walk, or null.
const Step* reconstruct_step(const Recipe& recipe);
// The step that trains the whole model after the walk, or null.
const Step* tune_step(const Recipe& recipe);
bool step_matches(const Step& step, const UnitSpec& unit);
// The steps that apply to `unit`, in file order: of each stage the last one that matches. A glob that matches only some
// members of a stack is ErrorKind::usage, and so is anything but "zero or more others, then quantize".
std::vector<const Step*> steps_for(const Recipe& recipe, const UnitSpec& unit);

// "60MiB" "45MB" "61900000" or "3.1bpw" (of `weights`) to bytes. ErrorKind::usage for anything else.
uint64_t parse_budget(const std::string& text, uint64_t weights);

}  // namespace whit
