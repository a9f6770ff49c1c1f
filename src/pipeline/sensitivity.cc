#include "pipeline/sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "base/checked.h"
#include "base/hash.h"
#include "calibrate/statistics.h"
#include "pipeline/fisher.h"
#include "pipeline/pause.h"
#include "pipeline/plan.h"

namespace whit {
namespace {

// Distortions are measured on every stride-th row of a unit, at least this many: rows are independent given the gram,
// so a sample estimates the sum.
constexpr uint64_t kSampledRows = 192;
constexpr uint64_t kSampledEmbeddingRows = 2048;

bool is_end(const UnitSpec& unit) { return unit.block < 0; }

// The format whose KL is measured for a kind: the middle one by size, where the curve of loss against bits turns.
FormatPtr probe_format(const Step& step, const UnitSpec& unit) {
  std::vector<FormatPtr> formats = formats_of(step, unit);
  const Shape shape{unit.rows, unit.cols};
  std::sort(formats.begin(), formats.end(), [&](const FormatPtr& a, const FormatPtr& b) {
    return a->bytes(shape) != b->bytes(shape) ? a->bytes(shape) < b->bytes(shape) : a->label() < b->label();
  });
  return formats[formats.size() / 2];
}

Matrix unpack_all(const Packed& packed) {
  Matrix dense(packed.shape.rows, packed.shape.cols);
  const auto parts = packed.views();
  packed.format->unpack(packed.shape, parts, 0, packed.shape.rows, dense.data.data());
  return dense;
}

// 1/2 sum_r F_r (d_r G d_r^T), a few hundred rows at a time: an embedding's difference is not held as a whole.
double weighted_error(const Matrix& original, const Matrix& rounded, const Matrix& gram,
                      const std::vector<float>& fisher, uint64_t stride) {
  constexpr size_t kRows = 512;
  Matrix difference(std::min(kRows, original.rows), original.cols);
  std::vector<double> errors(difference.rows);
  double sum = 0;
  for (size_t begin = 0; begin < original.rows; begin += kRows) {
    const size_t count = std::min(kRows, original.rows - begin);
    for (size_t i = 0; i < count * original.cols; ++i)
      difference.data[i] = rounded.row(begin)[i] - original.row(begin)[i];
    quadratic_forms({difference.data.data(), count, original.cols, original.cols}, gram,
                    std::span(errors).first(count));
    for (size_t r = 0; r < count; ++r) sum += fisher[(begin + r) * stride] * errors[r];
  }
  return 0.5 * sum;
}

TensorState sample_rows(const TensorState& whole, uint64_t stride) {
  TensorState sample;
  sample.unit = whole.unit;
  sample.statistics = whole.statistics;
  sample.source_group = whole.source_group;
  const uint64_t rows = div_up(whole.weights.rows, stride);
  sample.weights = Matrix(rows, whole.weights.cols);
  if (whole.source_grid) {
    sample.source_grid.emplace();
    sample.source_grid->groups_per_row = whole.source_grid->groups_per_row;
  }
  for (uint64_t r = 0; r < rows; ++r) {
    std::copy_n(whole.weights.row(r * stride), whole.weights.cols, sample.weights.row(r));
    if (!whole.source_grid) continue;
    const auto& grid = *whole.source_grid;
    const auto begin = static_cast<std::ptrdiff_t>(r * stride * grid.groups_per_row);
    const auto end = begin + static_cast<std::ptrdiff_t>(grid.groups_per_row);
    sample.source_grid->scale.insert(sample.source_grid->scale.end(), grid.scale.begin() + begin,
                                     grid.scale.begin() + end);
    sample.source_grid->minimum.insert(sample.source_grid->minimum.end(), grid.minimum.begin() + begin,
                                       grid.minimum.begin() + end);
  }
  return sample;
}

// The distortion of every format of one unit, under a gram that quantization did not see: under its own, a method that
// makes up for errors looks better than it is. `fisher` per row of the whole unit.
std::vector<double> distortions(const SensitivityContext& context, const TensorState& state,
                                const Matrix& held_out_gram, const std::vector<float>& fisher) {
  const FormatPtr source = source_format(context.model, state.unit);
  const uint64_t wanted = is_end(state.unit) ? kSampledEmbeddingRows : kSampledRows;
  const uint64_t stride = std::max<uint64_t>(1, state.weights.rows / wanted);
  TensorState sample = sample_rows(state, stride);
  const double scale = static_cast<double>(state.weights.rows) / static_cast<double>(sample.weights.rows);
  const auto quantizer = make_quantizer(context.allocate.quantizer, Json::object());
  std::vector<double> losses;
  for (const FormatPtr& format : formats_of(context.allocate, state.unit)) {
    if (source && source->label() == format->label()) {
      losses.push_back(0.0);
      continue;
    }
    sample.plan = format;
    quantizer->quantize(sample, {context.pool, 0});
    losses.push_back(scale * weighted_error(sample.weights, unpack_all(*sample.packed), held_out_gram, fisher, stride));
  }
  return losses;
}

// Rounds a whole unit the quick way; only the relation between its weighted error and the measured KL matters.
Matrix probe_weights(const SensitivityContext& context, TensorState& state) {
  state.plan = probe_format(context.allocate, state.unit);
  make_quantizer("rtn", Json::object())->quantize(state, {context.pool, 0});
  return unpack_all(*state.packed);
}

std::string block_unit(uint64_t block, const std::string& kind) { return fmt::format("blk.{}.{}.weight", block, kind); }

// State between two blocks; durable after each.
struct Flow {
  uint64_t next_block = 0;
  Activations original;                       // calibration windows
  Activations held_out;                       // probe windows, nothing rounded
  std::map<std::string, Activations> probes;  // kind -> probe windows, that kind rounded in all blocks so far
  std::map<std::string, double> probe_error;  // kind -> sum of S over its units
  std::map<std::string, std::vector<double>> losses;

  Json header() const {
    Json json;
    json["next_block"] = next_block;
    json["probe_error"] = probe_error;
    json["losses"] = losses;
    return json;
  }
};

// Members' dense weights from a stacked matrix.
void put_members(const UnitSpec& unit, const Matrix& stacked, DenseWeights& weights) {
  uint64_t begin = 0;
  for (size_t m = 0; m < unit.members.size(); ++m) {
    std::copy_n(stacked.row(begin), unit.member_rows[m] * unit.cols, weights.at(unit.members[m]).data.data());
    begin += unit.member_rows[m];
  }
}

std::string flow_key(const SensitivityContext& context) {
  Hasher hasher;
  hasher.add("sensitivity 2").add(context.model.weights_hash()).add(context.windows.hash).add(context.probe_windows.hash);
  hasher.add(machine_key(context.pool.threads()));
  Recipe only;
  only.steps.push_back(context.allocate);
  only.steps[0].budget = 0;
  hasher.add(recipe_to_json(only).at("step").dump());
  return hasher.hex();
}

// Mean x x^T after the final norm.
Matrix gram_of_output(MatrixView normed) {
  Grams grams;
  grams.add("output", normed);
  return grams.mean("output").gram;
}

std::string output_gram_key(const Model& model, const CalibrationWindows& windows, int threads) {
  Hasher hasher;
  hasher.add("output gram 1").add(model.weights_hash()).add(windows.hash).add(machine_key(threads));
  return hasher.hex();
}

class Measurement {
 public:
  explicit Measurement(const SensitivityContext& context)
      : context_(context), spec_(context.model.spec), key_(flow_key(context)), units_(units_of(spec_)) {}

  Sensitivity run() {
    if (const auto done = context_.cache.load(key_ + "-result")) return from_json(done->json);
    fisher_ = load_fisher();
    load_flow();
    context_.progress.begin("sensitivity: blocks", static_cast<double>(spec_.layers));
    context_.progress.advance(static_cast<double>(flow_.next_block));
    while (flow_.next_block < spec_.layers) {
      block(flow_.next_block);
      ++flow_.next_block;
      store_flow();
      context_.progress.advance(1);
      pause_point(context_.progress);
    }
    const Sensitivity result = finish();
    context_.cache.store(key_ + "-result", {to_json(result), {}});
    context_.cache.remove(key_ + "-flow");
    context_.cache.remove(key_ + "-fisher");
    return result;
  }

 private:
  Fisher load_fisher() {
    if (auto stored = context_.cache.load(key_ + "-fisher")) {
      Fisher fisher;
      for (auto& [name, matrix] : stored->arrays) {
        if (name == "final_hidden")
          fisher.final_hidden = std::move(matrix);
        else if (name == "vocabulary")
          fisher.vocabulary = std::move(matrix.data);
        else
          fisher.rows[name] = std::move(matrix.data);
      }
      return fisher;
    }
    Fisher fisher = measure_fisher(context_.model, context_.probe_windows, 1, context_.pool, context_.progress);
    CacheEntry entry;
    const auto vector = [](const std::vector<float>& values) {
      Matrix matrix(1, values.size());
      matrix.data = values;
      return matrix;
    };
    for (const auto& [name, rows] : fisher.rows) entry.arrays.emplace_back(name, vector(rows));
    entry.arrays.emplace_back("vocabulary", vector(fisher.vocabulary));
    entry.arrays.emplace_back("final_hidden", fisher.final_hidden);
    entry.json = Json::object();
    context_.cache.store(key_ + "-fisher", entry);
    pause_point(context_.progress);
    return fisher;
  }

  void load_flow() {
    if (auto stored = context_.cache.load(key_ + "-flow")) {
      flow_.next_block = stored->json.at("next_block").get<uint64_t>();
      flow_.probe_error = stored->json.at("probe_error").get<std::map<std::string, double>>();
      flow_.losses = stored->json.at("losses").get<std::map<std::string, std::vector<double>>>();
      for (auto& [name, matrix] : stored->arrays) {
        const CalibrationWindows& windows = name == "original" ? context_.windows : context_.probe_windows;
        Activations& stream = name == "original"   ? flow_.original
                              : name == "held_out" ? flow_.held_out
                                                   : flow_.probes[name];
        stream = {windows.windows.size(), windows.context, std::move(matrix)};
      }
      return;
    }
    flow_.original = embed_windows(context_.model, context_.windows);
    flow_.held_out = embed_windows(context_.model, context_.probe_windows);
    for (const UnitSpec& unit : units_)
      if (unit.block == 0) flow_.probes[unit.kind] = flow_.held_out;
  }

  void store_flow() const {
    CacheEntry entry{flow_.header(), {}};
    entry.arrays.emplace_back("original", flow_.original.values);
    entry.arrays.emplace_back("held_out", flow_.held_out.values);
    for (const auto& [kind, probe] : flow_.probes) entry.arrays.emplace_back(kind, probe.values);
    context_.cache.store(key_ + "-flow", entry);
  }

  void block(uint64_t index) {
    DenseWeights weights = load_block(context_.model, index);
    Grams grams, held_out;
    run_block(spec_, index, weights, flow_.original, grams.hook());
    run_block(spec_, index, weights, flow_.held_out, held_out.hook());
    for (const UnitSpec& unit : units_) {
      if (unit.block != static_cast<int64_t>(index)) continue;
      TensorState state = load_unit(context_.model, unit);
      state.statistics = std::make_shared<const UnitStatistics>(grams.mean(unit.kind));
      const Matrix held_out_gram = held_out.mean(unit.kind).gram;
      const std::vector<float>& fisher = fisher_.rows.at(block_unit(index, unit.kind));
      flow_.losses[unit.name] = distortions(context_, state, held_out_gram, fisher);
      const Matrix rounded = probe_weights(context_, state);
      flow_.probe_error[unit.kind] += weighted_error(state.weights, rounded, held_out_gram, fisher, 1);
      put_members(unit, rounded, weights);
      run_block(spec_, index, weights, flow_.probes.at(unit.kind), {});
      put_members(unit, state.weights, weights);
    }
  }

  Sensitivity finish() {
    const ModelSpec& spec = spec_;
    const OutputRows output = original_output(context_.model);
    Sensitivity result;
    result.probes = Json::object();
    std::map<std::string, double> scale;
    const auto record = [&](const std::string& kind, const FormatPtr& format, double kl, double predicted) {
      scale[kind] = predicted > 0 ? kl / predicted : 1.0;
      result.probes[kind] = {{"format", format->label()}, {"kl", kl}, {"predicted", predicted}, {"scale", scale[kind]}};
    };
    context_.progress.begin("sensitivity: probes",
                            static_cast<double>(fisher_.final_hidden.rows * (flow_.probes.size() + 1)));
    for (const UnitSpec& unit : units_) {
      if (unit.block != 0) continue;
      const Matrix hidden = final_norm(context_.model, flow_.probes.at(unit.kind).values);
      record(unit.kind, probe_format(context_.allocate, unit),
             mean_kl(spec, fisher_.final_hidden, output, hidden, output, context_.pool, context_.progress),
             flow_.probe_error.at(unit.kind));
      pause_point(context_.progress);
    }
    // Embedding and output: what the output layer sees. The error of a row as an input is of the same size and goes
    // into the scale, because a tied matrix is probed as the output.
    auto statistics = std::make_shared<UnitStatistics>();
    statistics->gram = gram_of_output(final_norm(context_.model, flow_.original.values));
    statistics->tokens = flow_.original.values.rows;
    context_.cache.store(output_gram_key(context_.model, context_.windows, context_.pool.threads()),
                         {Json::object(), {{"gram", statistics->gram}}});
    const Matrix held_out_gram = gram_of_output(fisher_.final_hidden);
    for (const UnitSpec& unit : units_) {
      if (!is_end(unit)) continue;
      TensorState state = load_unit(context_.model, unit);
      state.statistics = statistics;
      flow_.losses[unit.name] = distortions(context_, state, held_out_gram, fisher_.vocabulary);
      const Matrix rounded = probe_weights(context_, state);
      const OutputRows rounded_output = [&](const std::function<void(uint64_t, MatrixView)>& visit) {
        visit(0, rounded);
      };
      record(unit.kind, state.plan,
             mean_kl(spec, fisher_.final_hidden, output, fisher_.final_hidden, rounded_output, context_.pool,
                     context_.progress),
             weighted_error(state.weights, rounded, held_out_gram, fisher_.vocabulary, 1));
    }
    for (const UnitSpec& unit : units_) {
      UnitSensitivity& entry = result.units[unit.name];
      for (const double loss : flow_.losses.at(unit.name)) entry.loss.push_back(scale.at(unit.kind) * loss);
    }
    context_.progress.end();
    return result;
  }

  static Json to_json(const Sensitivity& sensitivity) {
    Json json;
    for (const auto& [name, unit] : sensitivity.units) json["units"][name] = unit.loss;
    json["probes"] = sensitivity.probes;
    return json;
  }

  static Sensitivity from_json(const Json& json) {
    Sensitivity sensitivity;
    for (const auto& [name, losses] : json.at("units").items())
      sensitivity.units[name] = {losses.get<std::vector<double>>()};
    sensitivity.probes = json.at("probes");
    return sensitivity;
  }

  const SensitivityContext& context_;
  const ModelSpec& spec_;
  const std::string key_;
  const std::vector<UnitSpec> units_;
  Fisher fisher_;
  Flow flow_;
};

}  // namespace

const std::vector<FormatPtr>& formats_of(const Step& allocate, const UnitSpec& unit) {
  return is_end(unit) ? allocate.embedding_formats : allocate.formats;
}

Sensitivity measure_sensitivity(const SensitivityContext& context) { return Measurement(context).run(); }

bool sensitivity_is_known(const SensitivityContext& context) {
  return std::filesystem::exists(context.cache.path(flow_key(context) + "-result"));
}

Sensitivity guessed_sensitivity(const Model& model, const Step& allocate) {
  Sensitivity guess;
  for (const UnitSpec& unit : units_of(model.spec))
    for (const FormatPtr& format : formats_of(allocate, unit)) {
      const auto weights = static_cast<double>(unit.rows * unit.cols);
      const double bits = 8.0 * static_cast<double>(format->bytes({unit.rows, unit.cols})) / weights;
      guess.units[unit.name].loss.push_back(weights * std::exp2(-2 * bits));
    }
  return guess;
}

Matrix output_gram(const Model& model, const CalibrationWindows& windows, const Cache& cache, int threads,
                   Progress& progress) {
  const std::string key = output_gram_key(model, windows, threads);
  if (auto stored = cache.load(key)) return std::move(stored->arrays.at(0).second);
  Activations activations = embed_windows(model, windows);
  progress.begin("what the output layer sees", static_cast<double>(model.spec.layers));
  for (uint64_t block = 0; block < model.spec.layers; ++block) {
    run_block(model.spec, block, load_block(model, block), activations, {});
    progress.advance(1);
    pause_point(progress);
  }
  Matrix gram = gram_of_output(final_norm(model, activations.values));
  cache.store(key, {Json::object(), {{"gram", gram}}});
  progress.end();
  return gram;
}

std::string machine_key(int threads) {
  std::string isa = "baseline";
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) isa = "avx2";
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) isa = "avx512";
#endif
  return fmt::format("{} threads {}", isa, threads);
}

}  // namespace whit
