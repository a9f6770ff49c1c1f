// Families of formats that need training, for `--fit`: which is best at a rate (families.def, measured after training), and
// the recipe of a family for a number of bytes. Families:
//   factors   linears and embedding as lowrank_sign
//   rotated   linears rotated, as grids of 2 to 8 bits with row and column scales; the embedding as factors or a grid
//   grids     what fit_plan() chooses, not trained
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/fit.h"
#include "pipeline/plan.h"
#include "pipeline/sensitivity.h"

namespace whit {

struct FamilyOffer {
  std::string family;
  double kl = 0;          // expected after training, nats
  bool measured = false;  // between measured points; else beyond them, by the slope of the last two
};
// All families at `rate` bits per weight of the units, best first.
std::vector<FamilyOffer> family_offers(double rate);

struct FamilyRequest {
  const Model& model;
  const Step& allocate;            // whose formats `sensitivity` was measured for
  const Sensitivity& sensitivity;  // allocates inside the family: errors before training
  Recipe asked;                    // calibrate and tune tables
  bool trains = true;              // a distill step follows
  // The file's bytes for a plan and its recipe.
  std::function<uint64_t(const Plan&, const Recipe&)> file_bytes;
};
struct FamilyPlan {
  Recipe recipe;
  Plan plan;
  uint64_t bytes = 0;
};
// Of the smallest file, factors of rank 8: its bytes, and what of them is not the units' (metadata, tokenizer, norms,
// manifest; in other files about as much).
struct FileSizes {
  uint64_t bytes = 0, overhead = 0;
};
FileSizes smallest_file(const FamilyRequest& request);
// The largest plan of the family ("factors" or "rotated") whose file has at most `budget` bytes, nothing where there is none.
std::optional<FamilyPlan> family_plan(const FamilyRequest& request, const std::string& family, uint64_t budget);

// What `--fit` makes of a budget: the family that is best at this size where there is time to train it, else measured
// grids; a size below the smallest grids is met by a family all the same.
struct ChoiceRequest {
  const OutputFrame& frame;
  const Step& allocate;
  const Sensitivity& sensitivity;
  const Recipe& recipe;
  uint64_t budget = 0;
  bool trains = false;
  std::function<Recipe(const Recipe&)> longest;  // a recipe as the manifest may have to hold it
  int threads = 1;
};
struct ChosenPlan {
  Plan plan;
  Recipe recipe;               // what was asked for, or the family's
  double predicted_loss = -1;  // the units' added; below 0: not predicted
  bool lossless = false;
  Json families;  // the offers and what became of them; null where they were not asked
  std::vector<std::string> notes;
};
// ErrorKind::budget that says the least size; ErrorKind::usage for a step that a family has no place for.
ChosenPlan choose_plan(const ChoiceRequest& request);
// The smallest file that it could make.
uint64_t least_bytes(const ChoiceRequest& request);

}  // namespace whit
