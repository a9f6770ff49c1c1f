// The text that tune trains on, as windows of token ids: what the original writes itself, a file, or half of each.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/options.h"
#include "base/progress.h"
#include "calibrate/cache.h"
#include "data/tokenizer.h"
#include "model/spec/model.h"

namespace whit {

// [tune]: how a tune step runs.
struct TuneOptions {
  std::string data = "self";  // "self", a plain text file, or "self+FILE": half and half
  std::string data_hash;      // set in a resolved recipe
  int64_t tokens = 0;         // tokens to train on (0: from --minutes)
  int64_t text_tokens = 0;    // different tokens to train on; passes are repeated after these
  int batch = 0;              // tokens of a step (0: 16384 on CUDA, 2048 on the CPU)
  int context = 512;
  int64_t seed = 0;

  template <class V>
  void visit(V& v) {
    v("data", data, "self (the original writes it), a plain text file, or self+FILE");
    v("data_hash", data_hash, "hash of the windows that this recipe was made with");
    v("tokens", tokens, "tokens to train on", Range{0, 1e12});
    v("text_tokens", text_tokens,
      "tokens of text; passes are repeated after these (0: as many as tokens, 16 million at most; with a time limit "
      "half as many as can be trained on)",
      Range{0, 1e12});
    v("batch", batch, "tokens of a step (0: 16384 on CUDA, 2048 on the CPU)", Range{0, 1 << 24});
    v("context", context, "tokens of a window", Range{2, 1e6});
    v("seed", seed, "draws the text and its order", Range{0, 9e15});
  }
};

struct TrainingText {
  std::vector<std::vector<int32_t>> train, held_out;
  std::string hash;          // over all windows
  bool written_now = false;  // the writer was needed: not all was in the cache
};

// Different tokens of text for a training whose `tokens` were chosen by time: what the original writes is trained on
// twice, whole pieces of it (at least one) beside what is held out. A text that is there is read once.
uint64_t text_tokens_for(const TuneOptions& options, uint64_t held_out_windows, uint64_t tokens);

// `writer`: the model that writes for "self". What it wrote is kept in the cache by its content, seed, length and device.
TrainingText training_text(const Model& writer, const TuneOptions& options, uint64_t tokens, uint64_t held_out_windows,
                           const Cache& cache, Progress& progress);

// Of such a text at most.
uint64_t most_text_tokens(const TuneOptions& options);

// Tokens that `writer` would have to write for such a text; 0 where all are in the cache, or none are wanted.
uint64_t tokens_to_write(const Model& writer, const TuneOptions& options, uint64_t tokens, uint64_t held_out_windows,
                         const Cache& cache);
// Seconds that a written token takes, by writing a few.
double seconds_per_written_token(const Model& writer, const TuneOptions& options);

// The model's own, from its folder's files or its metadata.
std::shared_ptr<const Tokenizer> tokenizer_of(const Model& model);

// "self" or "self+FILE": the original writes all or half of it.
bool self_written(const std::string& data);

// How a manifest calls the text: it names no files, so a text of the user's own is "text" or "self+text".
std::string nameless(const std::string& data);

}  // namespace whit
