#include "pipeline/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/error.h"
#include "data/text.h"
#include "evaluate/evaluate.h"
#include "evaluate/rows.h"
#include "model/torch/device.h"
#include "model/torch/executor.h"
#include "pipeline/fisher.h"
#include "pipeline/pause.h"
#include "pipeline/training_text.h"

namespace whit {
namespace {

// Normed hidden states of the positions that are judged, context / 2 to context - 2 of every window: [positions,
// embedded].
Matrix judged_states(const Model& model, const TokenWindows& windows, Progress& progress) {
  const size_t context = windows.context;
  std::vector<int32_t> ids;
  for (const auto& window : windows.windows) ids.insert(ids.end(), window.begin(), window.end());
  Activations stream{windows.windows.size(), context, embed(model, ids, context)};
  for (uint64_t block = 0; block < model.spec.layers; ++block) {
    run_block(model.spec, block, load_block(model, block), stream, {});
    progress.advance(static_cast<double>(ids.size()));
    pause_point(progress);
  }
  const size_t first = context / 2, judged = context - 1 - first;
  Matrix states(stream.sequences * judged, stream.values.cols);
  for (size_t w = 0; w < stream.sequences; ++w)
    std::copy_n(stream.values.row(w * context + first), judged * states.cols, states.row(w * judged));
  return final_norm(model, states);
}

TokenWindows cut_windows_of(const Model& original) {
  const uint64_t trained = original.spec.context;
  const uint64_t context = trained ? std::min(trained, kCheckContext) : kCheckContext;
  // Some four times what is needed: not the whole book is tokenized.
  std::string text = default_judging_text();
  size_t end = std::min<size_t>(text.size(), 16 * kCheckWindows * context);
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
  text.resize(end);
  return judging_windows(*tokenizer_of(original), text, context, kCheckWindows);
}

struct Judged {
  MeanError kl;
  double perplexity, base_perplexity;  // of the second halves
};

Judged judge_by_blocks(const Model& original, const Model& made, const TokenWindows& windows, ThreadPool& pool,
                       Progress& progress) {
  const ModelSpec& spec = original.spec;
  const size_t context = windows.context, first = context / 2, judged = context - 1 - first;
  const size_t positions = windows.windows.size() * judged;
  // A position costs a pass through the output layer about what some blocks cost; the bar need not be more exact.
  progress.begin("check", static_cast<double>(2 * spec.layers * windows.windows.size() * context + positions));
  const Matrix before = judged_states(original, windows, progress), after = judged_states(made, windows, progress);
  std::vector<double> loss(positions), loss_before(positions);
  const std::vector<double> kl =
      each_kl(spec, before, original_output(original), after, original_output(made), pool, progress,
              [&](size_t row, const float* p, const float* q) {
                const auto next = static_cast<size_t>(windows.windows[row / judged][first + row % judged + 1]);
                loss_before[row] = -p[next];
                loss[row] = -q[next];
              });
  progress.end();
  return {mean_error(kl), std::exp(mean_error(loss).mean), std::exp(mean_error(loss_before).mean)};
}

Judged judge_on_card(const Model& original, const Model& made, const TokenWindows& windows, ThreadPool& pool,
                     Progress& progress) {
  const Candidate base{"original", make_device_scorer(original), &windows},
      file{"file", make_device_scorer(made), &windows};
  const Judgements judged = evaluate({&file, 1}, &base, pool, progress);
  const Judgement& row = judged.models.at(0);
  return {{row.kl_mean, row.kl_mean_error}, row.perplexity_half, judged.base->perplexity_half};
}

Json check_models(const Model& original, const Model& made, const TokenWindows& windows, bool on_card, ThreadPool& pool,
                  Progress& progress) {
  const auto start = std::chrono::steady_clock::now();
  const Judged judged = (on_card ? judge_on_card : judge_by_blocks)(original, made, windows, pool, progress);
  const MeanError mean = judged.kl;
  const double perplexity = judged.perplexity, of_original = judged.base_perplexity;
  const bool speaks = mean.mean <= kSilentKl;
  if (!speaks)
    progress.note(
        fmt::format("this file will hardly speak: {:.2f} nats from the original, perplexity {:.0f} where that has "
                    "{:.1f}",
                    mean.mean, perplexity, of_original));
  return {{"windows", windows.windows.size()},
          {"context", windows.context},
          {"kl_mean", mean.mean},
          {"kl_mean_error", mean.error},
          {"perplexity_half", perplexity},
          {"base_perplexity_half", of_original},
          {"speaks", speaks},
          {"seconds", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()}};
}

}  // namespace

TokenWindows check_windows(const Model& original, Progress& progress) {
  try {
    return cut_windows_of(original);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::io && error.kind() != ErrorKind::input && error.kind() != ErrorKind::usage) throw;
    progress.note(fmt::format("the file will not be checked: {}", error.message()));
    return {};
  }
}

Json check_output(const Model& original, const std::filesystem::path& output, const TokenWindows& windows, bool trained,
                  ThreadPool& pool, Progress& progress) {
  try {
    return check_models(original, *load_model(output), windows, trained && learning_device() != "cpu", pool, progress);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::interrupted) throw;
    throw Error(ErrorKind::interrupted, "stopped while the file was checked; the file itself is complete",
                output.string(), {}, "whit eval measures it");
  }
}

uint64_t check_bytes(const ModelSpec& spec) {
  const uint64_t context = spec.context ? std::min(spec.context, kCheckContext) : kCheckContext;
  uint64_t block = 0, widest = 0;
  for (const TensorSpec& tensor : block_tensors(spec, 0)) {
    block += tensor.shape.count() * sizeof(float);
    widest = std::max(widest, tensor.shape.count() * sizeof(float));
  }
  const uint64_t stream = kCheckWindows * context * spec.width * sizeof(float);
  // The text and its ids; a stream, and the judged halves of both models; a block; logits of 64 rows by both, and what
  // is dense of an output matrix.
  return (uint64_t{12} << 20) + 2 * stream + block + widest + block_scratch_bytes(spec, context) +
         2 * 64 * spec.vocabulary * sizeof(float) + 2 * 4096 * spec.width * sizeof(float);
}

}  // namespace whit
