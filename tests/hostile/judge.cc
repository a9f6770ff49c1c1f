#include "hostile/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"
#include "cli/convert.h"
#include "logits.h"
#include "model/spec/basis.h"
#include "runtime/runtime.h"
#ifdef WHIT_LEARN
#include "methods/parametrize/parametrizations.h"
#include "model/torch/executor.h"
#endif

namespace whit::tests {
namespace {

constexpr size_t kTokens = 17;

struct Wrong {
  std::string why;
};

struct Run {
  std::vector<float> logits;  // empty: ErrorKind::numeric
  std::string error;
};

// In pieces that go every way through the products: many at once, a few, one by one.
Run run(const std::shared_ptr<const Scorer>& scorer) {
  const size_t count = std::min<size_t>(kTokens, scorer->spec().context);
  std::vector<int32_t> ids(count);
  for (size_t i = 0; i < count; ++i) ids[i] = static_cast<int32_t>((i * 37 + 5) % scorer->spec().vocabulary);
  Run result;
  try {
    const auto session = scorer->open(count);
    for (size_t at = 0; at < count;) {
      const size_t piece = std::min<size_t>(count - at, at == 0 ? 12 : at == 12 ? 3 : 1);
      session->feed(std::span(ids).subspan(at, piece), 0, [&](size_t, std::span<const float> row) {
        result.logits.insert(result.logits.end(), row.begin(), row.end());
      });
      at += piece;
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::numeric) throw;
    result = {{}, error.what()};
  }
  return result;
}

Run run_runtime(const ModelPtr& model, ThreadPool& pool, const std::string& isa, ActivationType activations) {
  return run(make_runtime(model, pool, {isa, activations}));
}

// The same model with gains of norms that are off by up to 1e-5 of their size, and biases by up to 1e-6 (a large one
// cancels in the next norm and leaves its rounding): how far that moves the logits says how far roundings may.
ModelPtr shaken(const ModelPtr& model) {
  auto other = std::make_shared<Model>(*model);
  Rng rng(7);
  for (StoredTensor& tensor : other->tensors) {
    const double part = tensor.name.ends_with("norm.weight") ? 1e-5 : tensor.name.ends_with(".bias") ? 1e-6 : 0;
    if (part == 0 || !tensor.members.empty() || tensor.shape.rows != 1) continue;
    std::vector<float> values(tensor.shape.cols);
    unpack_rows({&tensor, 0, 1}, 0, 1, values);
    for (float& value : values) value *= static_cast<float>(1 + part * (2 * rng.uniform() - 1));
    const std::string name = tensor.name;
    tensor = make_stored(name, std::make_shared<Packed>(pack_dense(make_format("f32"), {1, values.size()}, values)));
    tensor.dimensions = 1;
  }
  return other;
}

void expect_near(const Run& a, const Run& b, double bound, const std::string& what) {
  if (a.logits.empty() != b.logits.empty())
    throw Wrong{fmt::format("{}: one overflows, one does not: '{}' '{}'", what, a.error, b.error)};
  if (a.logits.size() != b.logits.size()) throw Wrong{what + ": another number of logits"};
  const double apart = greatest_difference(a.logits, b.logits);
  if (!(apart <= bound)) throw Wrong{fmt::format("{}: {} apart, bound {}", what, apart, bound)};
}

Judged judge_or_throw(const std::filesystem::path& file, const std::filesystem::path& folder, bool as_folder) {
  ModelPtr model;
  try {
    model = load_model(file);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::internal || error.kind() == ErrorKind::usage) throw;
    return {Verdict::refused, error.what()};
  }
  ThreadPool pool(1);
  const std::vector<std::string> levels = available_isas();
  const Run reference = run_runtime(model, pool, levels[0], ActivationType::fp32);
  double bound = 0;
  if (!reference.logits.empty()) {
    double most = 0;
    for (const float y : reference.logits) most = std::max(most, std::abs(static_cast<double>(y)));
    const Run moved = run_runtime(shaken(model), pool, levels[0], ActivationType::fp32);
    const double response = moved.logits.empty() ? most : greatest_difference(moved.logits, reference.logits);
    bound = 1e-4 * standard_deviation(reference.logits) + 20 * response + 1e-6 * most;
  }
  for (const std::string& level : levels)
    if (level != levels[0])
      expect_near(run_runtime(model, pool, level, ActivationType::fp32), reference, bound,
                  level + " beside " + levels[0]);
#ifdef WHIT_LEARN
  expect_near(run(make_torch_scorer(model)), reference, bound, "LibTorch beside the runtime");
  for (const StoredTensor& tensor : model->tensors) {
    if (tensor.format->is_ggml() || !tensor.format->storable()) continue;
    try {
      const Packed packed = copy_packed({&tensor, 0, tensor.shape.rows});
      make_parametrization(parametrization_rows(), packed)->encode();
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::numeric) throw Wrong{fmt::format("learning {}: {}", tensor.name, error.what())};
    }
  }
#endif
  // Rounded to 8 bits, the same numbers are too large; and levels agree but for what rounding them otherwise changes.
  const Run rounded = run_runtime(model, pool, levels[0], ActivationType::int8);
  if (rounded.logits.empty() != reference.logits.empty())
    throw Wrong{fmt::format("int8 beside fp32: one overflows: '{}' '{}'", rounded.error, reference.error)};
  const double coarse = rounded.logits.empty() ? 0 : 100 * bound + 0.3 * standard_deviation(rounded.logits);
  for (const std::string& level : levels)
    expect_near(run_runtime(model, pool, level, ActivationType::int8), rounded, coarse, "int8, " + level);

  ConvertOptions options;
  options.output = folder / (as_folder ? "out" : "out.gguf");
  options.type = "F32";
  options.force = true;
  SilentProgress silent;
  std::filesystem::remove_all(options.output);
  try {
    const ModelPtr plain = turn_back_stream(model);
    as_folder ? write_folder(*plain, options, pool, silent) : write_gguf_model(*plain, options, pool, silent);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::internal) throw;
    if (std::filesystem::exists(options.output)) throw Wrong{"convert refuses and leaves something"};
    return {reference.logits.empty() ? Verdict::overflow : Verdict::unwritten, error.what()};
  }
  const Run again = run_runtime(load_model(options.output), pool, levels[0], ActivationType::fp32);
  expect_near(again, reference, bound, as_folder ? "converted to a folder" : "converted to GGUF");
  return {reference.logits.empty() ? Verdict::overflow : Verdict::same, {}};
}

}  // namespace

Judged judge(const std::filesystem::path& file, const std::filesystem::path& folder, bool as_folder) {
  try {
    return judge_or_throw(file, folder, as_folder);
  } catch (const Wrong& wrong) {
    return {Verdict::wrong, wrong.why};
  } catch (const Error& error) {
    return {Verdict::wrong, fmt::format("kind {}: {}", static_cast<int>(error.kind()), error.what())};
  } catch (const std::bad_alloc&) {
    return {Verdict::crashed, "memory"};
  } catch (const std::exception& error) {
    return {Verdict::wrong, error.what()};
  }
}

}  // namespace whit::tests
