#include "evaluate/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "evaluate/rows.h"

namespace whit {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
using Clock = std::chrono::steady_clock;

// One model on its way through the text.
struct Runner {
  const Candidate* candidate = nullptr;
  std::unique_ptr<ScorerSession> session;
  std::vector<float>* rows = nullptr;  // [piece_rows, vocabulary], shared by all models, the base has its own
  std::vector<RowSums> sums;           // of the piece
  double seconds = 0;
  uint64_t tokens = 0;
  std::vector<double> loss_half, loss_first;  // second and first half of the windows
  std::vector<double> divergence;
  uint64_t same_top = 0;

  uint64_t vocabulary() const { return candidate->scorer->spec().vocabulary; }
  std::span<const float> row(size_t r) const { return {rows->data() + r * vocabulary(), vocabulary()}; }

  // Feeds positions [begin, begin + count) of a window, keeps their rows and sums them.
  void feed(const std::vector<int32_t>& window, size_t begin, size_t count, ThreadPool& pool) {
    const size_t width = vocabulary();
    rows->resize(piece_rows * width);
    double copying = 0;
    const auto start = Clock::now();
    session->feed(std::span(window).subspan(begin, count), begin, [&](size_t position, std::span<const float> logits) {
      const auto from = Clock::now();
      std::copy(logits.begin(), logits.end(), rows->begin() + static_cast<int64_t>((position - begin) * width));
      copying += std::chrono::duration<double>(Clock::now() - from).count();
    });
    seconds += std::chrono::duration<double>(Clock::now() - start).count() - copying;
    tokens += count;
    sums.resize(count);
    pool.parallel_for(count, 1, [&](size_t first, size_t last, int) {
      for (size_t r = first; r < last; ++r) sums[r] = sum_row(row(r));
    });
  }

  // A window that the scorer judges by itself; false where it cannot.
  bool score_whole(const std::vector<int32_t>& window, const Scorer& base) {
    WindowScore score;
    const auto start = Clock::now();
    if (!candidate->scorer->score_window(window, base, score)) return false;
    seconds += std::chrono::duration<double>(Clock::now() - start).count();
    tokens += window.size();
    for (size_t r = 0; r + 1 < window.size(); ++r) {
      if (r < window.size() / 2) {
        loss_first.push_back(score.loss[r]);
        continue;
      }
      loss_half.push_back(score.loss[r]);
      divergence.push_back(score.divergence[r]);
      same_top += score.same_top[r];
    }
    return true;
  }

  void keep_losses(const std::vector<int32_t>& window, size_t begin, size_t count) {
    for (size_t r = 0; r < count && begin + r + 1 < window.size(); ++r) {
      const double loss = sums[r].log_sum_exp - row(r)[static_cast<size_t>(window[begin + r + 1])];
      (begin + r < window.size() / 2 ? loss_first : loss_half).push_back(loss);
    }
  }

  void keep_divergence(const Runner& base, size_t context, size_t begin, size_t count, ThreadPool& pool) {
    const size_t first = std::max(begin, context / 2), last = std::min(begin + count, context - 1);
    if (first >= last) return;
    const size_t at = divergence.size();
    divergence.resize(at + last - first);
    pool.parallel_for(last - first, 1, [&](size_t low, size_t high, int) {
      for (size_t i = low; i < high; ++i) {
        const size_t r = first - begin + i;
        divergence[at + i] = row_divergence(base.row(r), base.sums[r], row(r), sums[r]);
      }
    });
    for (size_t r = first - begin; r < last - begin; ++r) same_top += sums[r].top == base.sums[r].top;
  }

  Judgement judgement(bool against_base) const {
    Judgement result;
    result.context = candidate->windows->context;
    result.windows = candidate->windows->windows.size();
    result.loss_half = loss_half;
    const MeanError half = mean_error(loss_half);
    result.perplexity_half = std::exp(half.mean);
    result.perplexity_half_error = half.error * result.perplexity_half;
    double sum = 0;
    for (const double loss : loss_first) sum += loss;
    for (const double loss : loss_half) sum += loss;
    result.perplexity_all = std::exp(sum / static_cast<double>(loss_first.size() + loss_half.size()));
    result.tokens_per_second = seconds > 0 ? static_cast<double>(tokens) / seconds : nan;
    result.kl_mean = result.kl_mean_error = result.kl_median = result.kl_p99 = result.same_top = nan;
    if (against_base) {
      result.divergence = divergence;
      const MeanError kl = mean_error(divergence);
      result.kl_mean = kl.mean;
      result.kl_mean_error = kl.error;
      result.kl_median = quantile(divergence, 0.5);
      result.kl_p99 = quantile(divergence, 0.99);
      result.same_top = static_cast<double>(same_top) / static_cast<double>(divergence.size());
    }
    return result;
  }
};

void check_same_text(const Candidate& model, const Candidate& base) {
  if (model.scorer->spec().vocabulary != base.scorer->spec().vocabulary)
    throw Error(
        ErrorKind::input, "the models cannot be compared: their vocabularies differ", model.name,
        fmt::format("{} rows, the base has {}", model.scorer->spec().vocabulary, base.scorer->spec().vocabulary),
        "--against a model of the same family");
  if (model.windows->windows != base.windows->windows)
    throw Error(ErrorKind::input, "the models cannot be compared: their tokenizers give other ids for this text",
                model.name, {}, "--against the model that it was made from");
}

void check_ids(const Candidate& candidate) {
  const uint64_t vocabulary = candidate.scorer->spec().vocabulary;
  for (const auto& window : candidate.windows->windows)
    for (const int32_t id : window)
      if (id < 0 || static_cast<uint64_t>(id) >= vocabulary)
        throw Error(ErrorKind::input, "the tokenizer gives an id that the model has no row for", candidate.name,
                    fmt::format("id {} of {}", id, vocabulary), "a model whose tokenizer belongs to it");
}

}  // namespace

Judgements evaluate(std::span<const Candidate> models, const Candidate* base, ThreadPool& pool, Progress& progress) {
  std::vector<float> base_rows, model_rows;
  std::optional<Runner> base_runner;
  std::vector<Runner> runners;
  const auto make = [&](const Candidate& candidate, std::vector<float>& rows) {
    check_ids(candidate);
    Runner runner;
    runner.candidate = &candidate;
    runner.session = candidate.scorer->open(candidate.windows->context);
    runner.rows = &rows;
    return runner;
  };
  if (base) base_runner = make(*base, base_rows);
  std::vector<bool> is_base;
  size_t most_windows = base ? base->windows->windows.size() : 0;
  double work = base ? static_cast<double>(base->windows->windows.size() * base->windows->context) : 0;
  for (const Candidate& candidate : models) {
    if (base) check_same_text(candidate, *base);
    is_base.push_back(base && candidate.scorer == base->scorer);
    runners.push_back(is_base.back() ? Runner{} : make(candidate, model_rows));
    if (is_base.back()) continue;
    most_windows = std::max(most_windows, candidate.windows->windows.size());
    work += static_cast<double>(candidate.windows->windows.size() * candidate.windows->context);
  }

  progress.begin("evaluating", work);
  for (size_t w = 0; w < most_windows; ++w) {
    const auto whole = [&](Runner& runner) {
      if (w >= runner.candidate->windows->windows.size()) return true;
      const auto& window = runner.candidate->windows->windows[w];
      progress.check_interrupt();
      if (!runner.score_whole(window, *base->scorer)) return false;
      progress.advance(static_cast<double>(window.size()));
      return true;
    };
    // All of them can or none.
    if (base_runner && whole(*base_runner)) {
      for (size_t m = 0; m < runners.size(); ++m)
        if (!is_base[m]) WHIT_CHECK(whole(runners[m]));
      continue;
    }
    if (base_runner) base_runner->session->reset();
    size_t context = base ? base->windows->context : 0;
    for (size_t m = 0; m < runners.size(); ++m) {
      if (is_base[m] || w >= models[m].windows->windows.size()) continue;
      runners[m].session->reset();
      context = std::max<size_t>(context, models[m].windows->context);
    }
    for (size_t begin = 0; begin < context; begin += piece_rows) {
      const auto step = [&](Runner& runner) -> bool {
        if (w >= runner.candidate->windows->windows.size()) return false;
        const auto& window = runner.candidate->windows->windows[w];
        if (begin >= window.size()) return false;
        progress.check_interrupt();
        const size_t count = std::min(piece_rows, window.size() - begin);
        runner.feed(window, begin, count, pool);
        runner.keep_losses(window, begin, count);
        if (base_runner && &runner != &*base_runner)
          runner.keep_divergence(*base_runner, window.size(), begin, count, pool);
        progress.advance(static_cast<double>(count));
        return true;
      };
      if (base_runner) step(*base_runner);
      for (size_t m = 0; m < runners.size(); ++m)
        if (!is_base[m]) step(runners[m]);
    }
  }
  progress.end();

  Judgements result;
  if (base_runner) {  // what it says of itself
    base_runner->divergence.assign(base_runner->loss_half.size(), 0.0);
    base_runner->same_top = base_runner->loss_half.size();
    result.base = base_runner->judgement(true);
  }
  for (size_t m = 0; m < runners.size(); ++m)
    result.models.push_back(is_base[m] ? *result.base : runners[m].judgement(base != nullptr));
  return result;
}

Paired compare(const Judgement& a, const Judgement& b) {
  WHIT_CHECK(a.loss_half.size() == b.loss_half.size());
  std::vector<double> difference(a.loss_half.size());
  for (size_t i = 0; i < difference.size(); ++i) difference[i] = a.loss_half[i] - b.loss_half[i];
  const MeanError loss = mean_error(difference);
  Paired result{loss.mean, loss.error, nan, nan};
  if (!a.divergence.empty() && a.divergence.size() == b.divergence.size()) {
    for (size_t i = 0; i < difference.size(); ++i) difference[i] = a.divergence[i] - b.divergence[i];
    const MeanError kl = mean_error(difference);
    result.kl = kl.mean;
    result.kl_error = kl.error;
  }
  return result;
}

}  // namespace whit
