#include "pipeline/family.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "format/lowrank_sign.h"
#include "pipeline/fit.h"

namespace whit {
namespace {

struct Point {
  const char* family;
  double linears, embedding, rate, kl;
};
constexpr Point kPoints[] = {
#define WHIT_FAMILY(family, linears, embedding, rate, kl) {#family, linears, embedding, rate, kl},
#include "pipeline/families.def"
#undef WHIT_FAMILY
};

std::vector<Point> points_of(const std::string& family) {
  std::vector<Point> points;
  for (const Point& point : kPoints)
    if (family == point.family) points.push_back(point);
  return points;  // by rate, as the table has them
}

// Between the two points around `rate`, or along the last two beyond them.
double along(const std::vector<Point>& points, double rate, const std::function<double(const Point&)>& value) {
  WHIT_CHECK(points.size() >= 2);
  size_t i = 1;
  while (i + 1 < points.size() && points[i].rate < rate) ++i;
  const Point &a = points[i - 1], &b = points[i];
  return value(a) + (value(b) - value(a)) * (rate - a.rate) / (b.rate - a.rate);
}

FormatPtr factors_of_rank(uint64_t rank) { return make_format("lowrank_sign", {{"bits", 0}, {"rank", rank}}); }
FormatPtr factors_of_bits(double bits, Shape shape) {
  return factors_of_rank(as_lowrank_sign(make_format("lowrank_sign", {{"bits", bits}}))->rank(shape));
}
FormatPtr grid_of_bits(int bits) { return make_format("grid", {{"bits", bits}, {"columns", true}}); }

uint64_t stored_bytes(const Plan& plan) {
  uint64_t sum = 0;
  for (const UnitPlan& unit : plan.units) sum += unit.bytes;
  return sum;
}

class Maker {
 public:
  Maker(const FamilyRequest& request, std::string family)
      : request_(request), family_(std::move(family)), points_(points_of(family_)), units_(units_of(request.model.spec)) {}

  std::optional<FamilyPlan> make(uint64_t budget) const {
    return family_ == "factors" ? factors(budget) : rotated(budget);
  }

  FamilyPlan smallest() const {
    std::vector<FormatPtr> formats;
    for (const UnitSpec& unit : units_) formats.push_back(factors_of_bits(0.001, {unit.rows, unit.cols}));
    return plan_with(formats);
  }

 private:
  static bool is_end(const UnitSpec& unit) { return unit.block < 0; }

  // A step a unit; the manifest gathers those that are alike.
  FamilyPlan plan_with(const std::vector<FormatPtr>& formats) const {
    FamilyPlan made;
    made.recipe = request_.asked;
    made.recipe.steps.clear();
    // At these sizes the compressed prefix is another model; its activations say little (docs/design/tune.md).
    made.recipe.calibrate.prefix = "original";
    const auto add = [&](const std::string& method, std::vector<std::string> tensors, FormatPtr format, Json options) {
      made.recipe.steps.push_back({method, std::move(tensors), std::move(format), std::move(options), {}, {}, {}, 0});
    };
    if (family_ == "rotated")
      add("rotate", {"blk.*"}, nullptr, make_transform("rotate", Json::object())->options());
    for (size_t u = 0; u < units_.size(); ++u)
      if (formats[u]->name() == "lowrank_sign")
        add("lowrank_admm", {units_[u].name}, formats[u], factor_options_);
      else
        add(grid_method_, {units_[u].name}, formats[u], grid_options_);
    if (const Step* own = tune_step(request_.asked); own && request_.trains)
      made.recipe.steps.push_back(*own);
    else if (request_.trains)
      add("distill", {}, nullptr, make_tuner("distill", Json::object())->options());
    made.plan = make_plan(request_.model, made.recipe);
    made.bytes = request_.file_bytes(made.plan, made.recipe);
    return made;
  }

  // The highest rate in (0, 8) whose plan fits, by halving.
  std::optional<FamilyPlan> largest(uint64_t budget,
                                    const std::function<std::vector<FormatPtr>(double rate)>& formats) const {
    std::optional<FamilyPlan> best;
    double low = 0, high = 8;
    for (int i = 0; i < 14; ++i) {
      const double rate = (low + high) / 2;
      FamilyPlan made = plan_with(formats(rate));
      if (made.bytes <= budget) {
        best = std::move(made);
        low = rate;
      } else {
        high = rate;
      }
    }
    return best;
  }

  // Bits along the table's points, then what is left goes, 8 ranks at a time, to the units whose rounding costs most a weight.
  std::optional<FamilyPlan> factors(uint64_t budget) const {
    const auto bits = [&](bool end, double rate) {
      return std::max(0.01, along(points_, rate, [&](const Point& p) { return end ? p.embedding : p.linears; }));
    };
    std::optional<FamilyPlan> best = largest(budget, [&](double rate) {
      std::vector<FormatPtr> formats;
      for (const UnitSpec& unit : units_)
        formats.push_back(factors_of_bits(bits(is_end(unit), rate), {unit.rows, unit.cols}));
      return formats;
    });
    if (!best) return best;
    std::vector<size_t> order(units_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    const auto urgency = [&](size_t u) {
      const auto& losses = request_.sensitivity.units.at(units_[u].name).loss;
      return *std::max_element(losses.begin(), losses.end()) / static_cast<double>(units_[u].rows * units_[u].cols);
    };
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return urgency(a) > urgency(b); });
    std::vector<FormatPtr> formats;
    for (const UnitPlan& unit : best->plan.units) formats.push_back(unit.format);
    for (const size_t u : order) {
      const Shape shape{units_[u].rows, units_[u].cols};
      const uint64_t rank = as_lowrank_sign(formats[u])->rank(shape) + 8;
      const FormatPtr more = factors_of_rank(rank);
      if (best->bytes + more->bytes(shape) - formats[u]->bytes(shape) > budget) continue;
      const FormatPtr before = std::exchange(formats[u], more);
      FamilyPlan made = plan_with(formats);
      if (made.bytes > budget)
        formats[u] = before;
      else
        best = std::move(made);
    }
    return best;
  }

  // Linears of 2, 3, 4 or 8 bits by measured loss at so many bits (of plain grids: rotation changes the level, hardly the order);
  // an embedding below 4 bits follows the table's points, from 4 bits on it is chosen with them.
  std::optional<FamilyPlan> rotated(uint64_t budget) const {
    std::optional<FamilyPlan> best;
    for (const double embedding : {1.2, 1.5, 2.0, 2.47, 4.0}) {
      std::optional<FamilyPlan> made = rotated_with(embedding, budget);
      if (!made) break;
      if (best && embedding > wanted_embedding(*best)) break;
      best = std::move(made);
    }
    return best;
  }

  // What the table gives the embedding at the rate of a plan.
  double wanted_embedding(const FamilyPlan& made) const {
    const double rate =
        8.0 * static_cast<double>(stored_bytes(made.plan)) / static_cast<double>(request_.model.spec.weights());
    return along(points_, rate, [](const Point& p) { return p.embedding; }) + 1e-6;
  }

  std::optional<FamilyPlan> rotated_with(double embedding, uint64_t budget) const {
    std::vector<std::vector<FormatPtr>> formats;
    std::vector<std::vector<Choice>> choices;
    for (const UnitSpec& unit : units_) {
      const Shape shape{unit.rows, unit.cols};
      formats.emplace_back();
      choices.emplace_back();
      if (is_end(unit) && embedding < 4) {
        formats.back().push_back(factors_of_bits(embedding, shape));
        choices.back().push_back({formats.back()[0]->bytes(shape), 0.0});
      } else {
        for (const int bits : is_end(unit) ? std::vector<int>{4, 5, 6, 8} : std::vector<int>{2, 3, 4, 8})
          if (const auto loss = loss_at(unit, bits)) {
            formats.back().push_back(grid_of_bits(bits));
            choices.back().push_back({formats.back().back()->bytes(shape), *loss});
          }
      }
      if (formats.back().empty()) return std::nullopt;
    }
    const auto plan_of = [&](const std::vector<size_t>& picks) {
      std::vector<FormatPtr> chosen;
      for (size_t u = 0; u < picks.size(); ++u) chosen.push_back(formats[u][picks[u]]);
      return plan_with(chosen);
    };
    const std::vector<size_t> picks = pick_within(request_.allocate, choices, budget,
                                                  [&](const std::vector<size_t>& some) { return plan_of(some).bytes; });
    if (picks.empty()) return std::nullopt;
    return plan_of(picks);
  }

  // The least measured loss of a grid of so many bits.
  std::optional<double> loss_at(const UnitSpec& unit, int bits) const {
    const std::vector<FormatPtr>& formats = formats_of(request_.allocate, unit);
    const auto& losses = request_.sensitivity.units.at(unit.name).loss;
    std::optional<double> least;
    for (size_t f = 0; f < formats.size(); ++f) {
      const auto affine = as_affine(formats[f]);
      if (affine && affine->levels() == uint32_t{1} << bits && (!least || losses[f] < *least)) least = losses[f];
    }
    return least;
  }

  const FamilyRequest& request_;
  const std::string family_;
  const std::vector<Point> points_;
  const std::vector<UnitSpec> units_;
  const std::string grid_method_ = request_.trains ? "rtn" : "gptq";
  const Json grid_options_ = make_quantizer(grid_method_, Json::object())->options();
  const Json factor_options_ = make_quantizer("lowrank_admm", {{"importance", "activations"}})->options();
};

}  // namespace

std::vector<FamilyOffer> family_offers(double rate) {
  std::vector<FamilyOffer> offers;
  for (const char* family : {"factors", "rotated", "grids"}) {
    const std::vector<Point> points = points_of(family);
    const double kl = std::exp(along(points, rate, [](const Point& p) { return std::log(p.kl); }));
    offers.push_back({family, kl, rate >= points.front().rate && rate <= points.back().rate});
  }
  std::stable_sort(offers.begin(), offers.end(), [](const FamilyOffer& a, const FamilyOffer& b) { return a.kl < b.kl; });
  return offers;
}

FileSizes smallest_file(const FamilyRequest& request) {
  const FamilyPlan made = Maker(request, "factors").smallest();
  return {made.bytes, made.bytes - stored_bytes(made.plan)};
}

std::optional<FamilyPlan> family_plan(const FamilyRequest& request, const std::string& family, uint64_t budget) {
  WHIT_CHECK(family == "factors" || family == "rotated");
  return Maker(request, family).make(budget);
}

namespace {

FamilyRequest family_request(const ChoiceRequest& request) {
  return {request.frame.model(),
          request.allocate,
          request.sensitivity,
          request.recipe,
          request.trains,
          [&request](const Plan& plan, const Recipe& recipe) {
            return plan_file_bytes(
                request.frame, plan,
                make_manifest(request.frame.model(), plan, request.longest(recipe), request.threads));
          }};
}

void take_grids(const ChoiceRequest& request, FitResult grids, ChosenPlan& chosen) {
  const Model& model = request.frame.model();
  const auto bytes_of = [&](const Plan& plan) {
    return plan_file_bytes(request.frame, plan,
                           make_manifest(model, plan, request.longest(request.recipe), request.threads));
  };
  // Where the original has types that such a file cannot hold, more bytes than it has go into other grids for nothing.
  if (!grids.lossless && request.budget > model.file_bytes && bytes_of(grids.plan) > model.file_bytes) {
    try {
      grids = fit_plan(request.frame, request.allocate, request.longest(request.recipe), request.sensitivity,
                       model.file_bytes, request.threads);
      chosen.notes.push_back(
          fmt::format("the original has {} bytes: a larger file is not made of it", model.file_bytes));
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::budget) throw;
    }
  }
  if (grids.lossless) chosen.notes.push_back("every tensor keeps its bytes: a larger file would not be better");
  chosen.plan = std::move(grids.plan);
  chosen.predicted_loss = grids.predicted_loss;
  chosen.lossless = grids.lossless;
}

}  // namespace

uint64_t least_bytes(const ChoiceRequest& request) { return smallest_file(family_request(request)).bytes; }

ChosenPlan choose_plan(const ChoiceRequest& request) {
  const Model& model = request.frame.model();
  ChosenPlan chosen;
  chosen.recipe = request.recipe;
  std::optional<FitResult> grids;
  const auto try_grids = [&] {
    try {
      grids = fit_plan(request.frame, request.allocate, request.longest(request.recipe), request.sensitivity,
                       request.budget, request.threads);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::budget) throw;
    }
    return grids.has_value();
  };
  if (!request.trains && try_grids()) {
    take_grids(request, std::move(*grids), chosen);
    return chosen;
  }
  for (const Step* step : {basis_step(request.recipe), reconstruct_step(request.recipe)})
    if (step)
      throw Error(ErrorKind::usage,
                  "this size needs formats that are trained, and their recipe has no place for a step of yours",
                  "recipe", step->method,
                  request.trains ? "leave out --minutes, or the step" : "a larger size, or leave the step out");
  const FamilyRequest families = family_request(request);
  const FileSizes smallest = smallest_file(families);
  const double rate = 8.0 * static_cast<double>(request.budget - std::min(request.budget, smallest.overhead)) /
                      static_cast<double>(model.spec.weights());
  chosen.families = Json::array();
  std::optional<FamilyPlan> family;
  for (const FamilyOffer& offer : family_offers(rate)) {
    Json row = {{"family", offer.family}, {"rate", rate}, {"expected_kl", offer.kl}, {"measured", offer.measured}};
    if (grids || family)
      row["verdict"] = "not better";
    else if (offer.family == "grids" ? try_grids()
                                     : (family = family_plan(families, offer.family, request.budget)).has_value())
      row["verdict"] = "chosen";
    else
      row["verdict"] = "not so small";
    chosen.families.push_back(std::move(row));
  }
  if (grids) {
    chosen.notes.push_back(tune_step(request.recipe)
                               ? "at this size the measured grids are best"
                               : "at this size the measured grids are best, and they are not trained");
    take_grids(request, std::move(*grids), chosen);
    return chosen;
  }
  if (!family)
    throw Error(ErrorKind::budget, "the budget cannot be met", "--fit", fmt::format("{} bytes", request.budget),
                fmt::format("the smallest file that can be made of this model has {} bytes", smallest.bytes));
  if (!request.trains)
    chosen.notes.push_back("formats as small as this need training: without --minutes the file will not speak");
  chosen.recipe = std::move(family->recipe);
  chosen.plan = std::move(family->plan);
  return chosen;
}

}  // namespace whit
