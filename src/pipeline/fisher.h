// The pieces of sensitivity.h that need the whole original model at once: a forward and a backward pass in blocks.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "data/text.h"
#include "model/spec/model.h"
#include "model/torch/executor.h"

namespace whit {

// Ids of the windows, embedded by the original: [windows * context, width].
Activations embed_windows(const Model& model, const CalibrationWindows& windows);

// Rows of an output matrix in slices, so that no dense copy of it is held: visit(begin, rows [count, width]).
using OutputRows = std::function<void(const std::function<void(uint64_t begin, MatrixView rows)>& visit)>;
OutputRows original_output(const Model& model);

// KL(softmax(a) || softmax(b)) in nats of every row of the normed hidden states a and b [tokens, width], each with its
// output matrix, capped as the model caps them. Logits are held for a few rows at a time; `seen` is shown the
// log-probabilities of a row by both, from several threads.
std::vector<double> each_kl(const ModelSpec& spec, MatrixView a, const OutputRows& a_output, MatrixView b,
                            const OutputRows& b_output, ThreadPool& pool, Progress& progress,
                            const std::function<void(size_t row, const float* a, const float* b)>& seen = {});
double mean_kl(const ModelSpec& spec, MatrixView a, const OutputRows& a_output, MatrixView b,
               const OutputRows& b_output, ThreadPool& pool, Progress& progress);

struct Fisher {
  std::map<std::string, std::vector<float>> rows;  // unit name -> mean squared gradient per output row
  std::vector<float> vocabulary;                   // mean p (1 - p) per token: the output factor of the output matrix
  Matrix final_hidden;                             // normed, [tokens, width], of the windows
};

// Labels are drawn from the model's own predictions with `seed`.
Fisher measure_fisher(const Model& model, const CalibrationWindows& windows, uint64_t seed, ThreadPool& pool,
                      Progress& progress);

}  // namespace whit
