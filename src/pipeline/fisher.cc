#include "pipeline/fisher.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/rng.h"
#include "pipeline/pause.h"

namespace whit {
namespace {

constexpr size_t kLogitRows = 64;        // rows whose logits are held at once: 64 x 49152 floats are 12.6 MB
constexpr uint64_t kOutputSlice = 4096;  // rows of the output matrix that are dense at once

// logits [hidden.rows, vocabulary] = hidden output^T, capped where the model caps them
Matrix logits_of(const ModelSpec& spec, MatrixView hidden, const OutputRows& output) {
  Matrix logits(hidden.rows, spec.vocabulary);
  output([&](uint64_t begin, MatrixView rows) {
    multiply_add(1.0f, hidden, rows, true, logits.data.data() + begin, spec.vocabulary);
  });
  cap_logits(spec, logits.data);
  return logits;
}

// In place: logits -> log-probabilities.
void log_softmax(float* row, size_t count) {
  const float most = *std::max_element(row, row + count);
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += std::exp(row[i] - most);
  const float shift = most + static_cast<float>(std::log(sum));
  for (size_t i = 0; i < count; ++i) row[i] -= shift;
}

MatrixView slice(MatrixView matrix, size_t begin, size_t count) {
  return {matrix.data + begin * matrix.stride, count, matrix.cols, matrix.stride};
}

// d loss / d x of what final_norm() does, the projection out included, for each row:
//   y = gain * z (+ bias),  z = (x - m) / sqrt(mean((x - m)^2) + epsilon)
// m: the row's mean for a layer norm, 0 for an rms norm. Without such a norm y is x.
Matrix norm_backward(const Model& model, const Matrix& x, Matrix y_gradient) {
  const ModelSpec& spec = model.spec;
  if (spec.projects()) {
    const Matrix out = unpack_dense(model.need("project_out.weight", {spec.embedding_width, spec.width}));
    Matrix pulled(y_gradient.rows, spec.width);
    multiply_add(1.0f, y_gradient, out, false, pulled.data.data(), spec.width);
    y_gradient = std::move(pulled);
  }
  if (!spec.final_norm) return y_gradient;
  const std::vector<float> gain = model.vector("output_norm.weight", spec.width);
  const bool centred = spec.norm == NormKind::layer;
  Matrix result(x.rows, x.cols);
  const double n = static_cast<double>(x.cols);
  for (size_t r = 0; r < x.rows; ++r) {
    const float *in = x.row(r), *g = y_gradient.row(r);
    const double mean = centred ? std::accumulate(in, in + x.cols, 0.0) / n : 0.0;
    double square = 0, dot = 0, sum = 0;
    for (size_t j = 0; j < x.cols; ++j) {
      const double pulled = static_cast<double>(g[j]) * gain[j];
      square += (in[j] - mean) * (in[j] - mean);
      dot += pulled * (in[j] - mean);
      sum += pulled;
    }
    const double inverse = 1.0 / std::sqrt(square / n + spec.norm_epsilon), shift = centred ? sum / n : 0.0;
    for (size_t j = 0; j < x.cols; ++j)
      result.row(r)[j] = static_cast<float>(
          inverse * (static_cast<double>(gain[j]) * g[j] - shift - (in[j] - mean) * dot * inverse * inverse / n));
  }
  return result;
}

}  // namespace

Activations embed_windows(const Model& model, const CalibrationWindows& windows) {
  return {windows.windows.size(), windows.context, embed(model, windows.ids(), windows.context)};
}

OutputRows original_output(const Model& model) {
  return [&model](const std::function<void(uint64_t, MatrixView)>& visit) {
    const TensorView view = model.output();
    Matrix rows(std::min(kOutputSlice, view.rows), model.spec.embedded());
    for (uint64_t begin = 0; begin < view.rows; begin += kOutputSlice) {
      const uint64_t count = std::min(kOutputSlice, view.rows - begin);
      unpack_rows(view, begin, count, std::span(rows.data).first(count * rows.cols));
      visit(begin, {rows.data.data(), count, rows.cols, rows.cols});
    }
  };
}

std::vector<double> each_kl(const ModelSpec& spec, MatrixView a, const OutputRows& a_output, MatrixView b,
                            const OutputRows& b_output, ThreadPool& pool, Progress& progress,
                            const std::function<void(size_t row, const float* a, const float* b)>& seen) {
  const uint64_t vocabulary = spec.vocabulary;
  std::vector<double> kl(a.rows, 0.0);
  for (size_t begin = 0; begin < a.rows; begin += kLogitRows) {
    const size_t count = std::min(kLogitRows, a.rows - begin);
    Matrix p = logits_of(spec, slice(a, begin, count), a_output);
    Matrix q = logits_of(spec, slice(b, begin, count), b_output);
    pool.parallel_for(count, 1, [&](size_t first, size_t last, int) {
      for (size_t r = first; r < last; ++r) {
        log_softmax(p.row(r), vocabulary);
        log_softmax(q.row(r), vocabulary);
        for (size_t v = 0; v < vocabulary; ++v)
          kl[begin + r] +=
              static_cast<double>(std::exp(p.row(r)[v])) * (static_cast<double>(p.row(r)[v]) - q.row(r)[v]);
        if (seen) seen(begin + r, p.row(r), q.row(r));
      }
    });
    progress.advance(static_cast<double>(count));
  }
  return kl;
}

double mean_kl(const ModelSpec& spec, MatrixView a, const OutputRows& a_output, MatrixView b,
               const OutputRows& b_output, ThreadPool& pool, Progress& progress) {
  const std::vector<double> kl = each_kl(spec, a, a_output, b, b_output, pool, progress);
  return std::accumulate(kl.begin(), kl.end(), 0.0) / static_cast<double>(a.rows);
}

Fisher measure_fisher(const Model& model, const CalibrationWindows& windows, uint64_t seed, ThreadPool& pool,
                      Progress& progress) {
  const ModelSpec& spec = model.spec;
  Fisher fisher;
  std::vector<Matrix> inputs;  // of every block: recomputed forward passes start from them
  Activations activations = embed_windows(model, windows);
  const size_t tokens = activations.values.rows;
  progress.begin("sensitivity: forward", static_cast<double>(spec.layers));
  for (uint64_t block = 0; block < spec.layers; ++block) {
    inputs.push_back(activations.values);
    run_block(spec, block, load_block(model, block), activations, {});
    progress.advance(1);
    pause_point(progress);
  }
  fisher.final_hidden = final_norm(model, activations.values);

  // d(-log p(label)) / d(normed hidden) = (p - onehot(label)) output, label drawn from p.
  progress.begin("sensitivity: output", static_cast<double>(tokens));
  const OutputRows output = original_output(model);
  Matrix gradient(tokens, spec.embedded());
  fisher.vocabulary.assign(spec.vocabulary, 0.0f);
  std::vector<double> vocabulary(spec.vocabulary, 0.0);
  Rng rng(seed);
  for (size_t begin = 0; begin < tokens; begin += kLogitRows) {
    const size_t count = std::min(kLogitRows, tokens - begin);
    Matrix p = logits_of(spec, slice(fisher.final_hidden, begin, count), output);
    std::vector<float> slope;  // d capped logit / d product, where the model caps them
    if (spec.logit_cap != 0)
      for (const float y : p.data) slope.push_back(1 - static_cast<float>(y * y / (spec.logit_cap * spec.logit_cap)));
    pool.parallel_for(count, 1, [&](size_t first, size_t last, int) {
      for (size_t r = first; r < last; ++r) log_softmax(p.row(r), spec.vocabulary);
    });
    for (size_t r = 0; r < count; ++r) {
      float* row = p.row(r);
      const float* slopes = slope.empty() ? nullptr : slope.data() + r * spec.vocabulary;
      double left = rng.uniform();
      size_t label = spec.vocabulary - 1;
      bool drawn = false;
      for (size_t v = 0; v < spec.vocabulary; ++v) {
        row[v] = std::exp(row[v]);
        const double by = slopes ? static_cast<double>(slopes[v]) : 1.0;
        vocabulary[v] += static_cast<double>(row[v]) * (1.0 - row[v]) * by * by;
        left -= row[v];
        if (!drawn && left < 0) {
          label = v;
          drawn = true;
        }
      }
      row[label] -= 1.0f;
      for (size_t v = 0; slopes && v < spec.vocabulary; ++v) row[v] *= slopes[v];
    }
    output([&](uint64_t first, MatrixView rows) {
      const MatrixView p_slice(p.data.data() + first, count, rows.rows, spec.vocabulary);
      multiply_add(1.0f, p_slice, rows, false, gradient.row(begin), spec.embedded());
    });
    progress.advance(static_cast<double>(count));
    pause_point(progress);
  }
  for (size_t v = 0; v < vocabulary.size(); ++v)
    fisher.vocabulary[v] = static_cast<float>(vocabulary[v] / static_cast<double>(tokens));

  progress.begin("sensitivity: backward", static_cast<double>(spec.layers));
  Activations flow{windows.windows.size(), windows.context,
                   norm_backward(model, from_stream(spec, activations.values), std::move(gradient))};
  to_stream(spec, flow.values);
  for (uint64_t block = spec.layers; block-- > 0;) {
    std::map<std::string, std::vector<double>> sums;
    const Activations input{flow.sequences, flow.length, std::move(inputs[block])};
    flow = backward_block(spec, block, load_block(model, block), input, flow,
                          [&](const std::string& kind, MatrixView rows) {
                            auto& sum = sums[kind];
                            sum.resize(rows.cols, 0.0);
                            for (size_t t = 0; t < rows.rows; ++t)
                              for (size_t r = 0; r < rows.cols; ++r) {
                                const double g = rows.data[t * rows.stride + r];
                                sum[r] += g * g;
                              }
                          });
    for (const auto& [kind, sum] : sums) {
      std::vector<float> mean(sum.size());
      for (size_t r = 0; r < sum.size(); ++r) mean[r] = static_cast<float>(sum[r] / static_cast<double>(tokens));
      fisher.rows["blk." + std::to_string(block) + "." + kind + ".weight"] = std::move(mean);
    }
    progress.advance(1);
    pause_point(progress);
  }
  progress.end();
  return fisher;
}

}  // namespace whit
