// Where the time of a calibration pass goes: model_torch_bench MODEL.gguf [threads] [sequences] [length]
// Prints the pass over all blocks with and without grams, the gradient of one block, then each part of a block on its
// own beside the speed of plain matrix products. Medians of 5; run it on an idle machine.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "model/torch/attention.h"
#include "model/torch/executor.h"
#include "model/torch/gemm.h"
#include "model/torch/kernels.h"

namespace whit {
namespace {

double seconds_of(const std::function<void()>& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median_of(const std::function<void()>& body) {
  body();
  std::vector<double> times;
  for (int i = 0; i < 5; ++i) times.push_back(seconds_of(body));
  std::sort(times.begin(), times.end());
  return times[2];
}

Matrix random_matrix(size_t rows, size_t cols) {
  Rng rng(rows + cols);
  Matrix m(rows, cols);
  for (float& v : m.data) v = static_cast<float>(rng.normal());
  return m;
}

void whole_pass(const Model& model, size_t sequences, size_t length) {
  const ModelSpec& spec = model.spec;
  Rng rng(1);
  std::vector<int32_t> ids(sequences * length);
  for (int32_t& id : ids) id = static_cast<int32_t>(rng.below(spec.vocabulary));
  double linear_flops = 0, gram_flops = 0, load = 0, blocks = 0, grams = 0;
  PeakMemory peak;
  Activations activations{sequences, length, embed(model, ids)};
  std::map<std::string, Matrix> sums;
  for (uint64_t block = 0; block < spec.layers; ++block) {
    DenseWeights weights;
    load += seconds_of([&] { weights = load_block(model, block); });
    double inside = 0;
    const double all = seconds_of([&] {
      run_block(spec, block, weights, activations, [&](const std::string& kind, MatrixView rows) {
        inside += seconds_of([&] {
          Matrix& gram = sums[kind];
          if (gram.rows == 0) gram = Matrix(rows.cols, rows.cols);
          add_gram(rows, gram);
        });
        gram_flops += 2.0 * static_cast<double>(rows.rows * rows.cols) * static_cast<double>(rows.cols);
      });
    });
    blocks += all - inside;
    grams += inside;
    for (const auto& [name, m] : weights)
      if (m.rows > 1) linear_flops += 2.0 * static_cast<double>(m.data.size() * ids.size());
  }
  std::printf(
      "pass over %zu blocks, %zu x %zu tokens: unpack %.2f s, blocks %.2f s (%.0f GFLOP/s in linears), grams %.2f s "
      "(%.0f GFLOP/s, both triangles counted), together %.2f s; peak %.0f MB, of it activations %.0f, scratch %.0f\n",
      static_cast<size_t>(spec.layers), sequences, length, load, blocks, linear_flops / blocks / 1e9, grams,
      gram_flops / grams / 1e9, load + blocks + grams, static_cast<double>(peak.peak()) / 1e6,
      static_cast<double>(activations.values.data.size()) * 4 / 1e6,
      static_cast<double>(block_scratch_bytes(spec, length)) / 1e6);
}

void parts(const ModelSpec& spec, size_t sequences, size_t length) {
  const size_t tokens = sequences * length;
  const torch_room::AttentionShape shape(spec);
  const auto product = [&](const char* name, size_t rows, size_t cols) {
    const Matrix x = random_matrix(tokens, cols), w = random_matrix(rows, cols);
    Matrix y(tokens, rows);
    const double s = median_of([&] {
      torch_room::parallel_gemm(static_cast<int64_t>(tokens), static_cast<int64_t>(rows), static_cast<int64_t>(cols), 1,
                                {x.data.data(), static_cast<int64_t>(cols), 1},
                                {w.data.data(), 1, static_cast<int64_t>(cols)}, 0, y.data.data(),
                                static_cast<int64_t>(rows));
    });
    std::printf("  %-22s %7.2f ms  %6.0f GFLOP/s\n", name, s * 1e3,
                2.0 * static_cast<double>(tokens * rows * cols) / s / 1e9);
  };
  std::printf("parts of a block for %zu tokens (%zu x %zu):\n", tokens, sequences, length);
  product("attn_q, attn_output", shape.query_width(), spec.width);
  product("attn_k, attn_v", shape.key_width(), spec.width);
  product("ffn_gate, ffn_up", spec.feed_forward, spec.width);
  product("ffn_down", spec.width, spec.feed_forward);
  Matrix q = random_matrix(tokens, shape.query_width()), k = random_matrix(tokens, shape.key_width());
  const Matrix v = random_matrix(tokens, shape.key_width());
  Matrix out(tokens, shape.query_width()), dq = q, dk = k, dv = v;
  std::vector<torch_room::AttentionSequence> forward;
  std::vector<torch_room::AttentionGradient> backward;
  for (size_t s = 0; s < sequences; ++s) {
    const size_t t = s * length;
    forward.push_back({length, 0, q.row(t), k.row(t), v.row(t), out.row(t)});
    backward.push_back({forward.back(), out.row(t), dq.row(t), dk.row(t), dv.row(t)});
  }
  const double causal = 2.0 * static_cast<double>(tokens * length * shape.query_width());  // half of both products
  double s = median_of([&] { torch_room::attention_forward(shape, forward); });
  std::printf("  %-22s %7.2f ms  %6.0f GFLOP/s (causal half counted)\n", "attention", s * 1e3, causal / s / 1e9);
  s = median_of([&] { torch_room::attention_backward(shape, backward); });
  std::printf("  %-22s %7.2f ms  %6.0f GFLOP/s (causal half counted)\n", "attention backward", s * 1e3,
              2.5 * causal / s / 1e9);
  const auto loop = [&](const char* name, size_t bytes, const std::function<void(size_t, size_t)>& body) {
    const double time =
        median_of([&] { torch_room::run_parallel(tokens, 16, [&](size_t a, size_t b, int) { body(a, b); }); });
    std::printf("  %-22s %7.2f ms  %6.1f GB/s\n", name, time * 1e3, static_cast<double>(bytes) / time / 1e9);
  };
  Matrix x = random_matrix(tokens, spec.width), y = x;
  const Matrix gain = random_matrix(1, spec.width);
  loop("norm (two a block)", 8 * x.data.size(), [&](size_t a, size_t b) {
    for (size_t t = a; t < b; ++t)
      torch_room::rms_norm(x.row(t), gain.data.data(), spec.width, spec.norm_epsilon, y.row(t));
  });
  torch_room::RotaryTable rotary(spec);
  rotary.extend(length);
  loop("rotary positions", 8 * (q.data.size() + k.data.size()), [&](size_t a, size_t b) {
    for (size_t t = a; t < b; ++t) {
      rotary.rotate(q.row(t), shape.heads, shape.head_size, t % length);
      rotary.rotate(k.row(t), shape.kv_heads, shape.head_size, t % length);
    }
  });
  Matrix gate = random_matrix(tokens, spec.feed_forward);
  const Matrix up = random_matrix(tokens, spec.feed_forward);
  loop("silu x up", 12 * gate.data.size(),
       [&](size_t a, size_t b) { torch_room::silu_multiply(gate.row(a), up.row(a), (b - a) * spec.feed_forward); });
  for (const size_t cols : {static_cast<size_t>(spec.width), static_cast<size_t>(spec.feed_forward)}) {
    const Matrix rows = random_matrix(tokens, cols);
    Matrix gram(cols, cols), upper;
    s = median_of([&] { add_gram(rows, gram); });
    std::printf("  gram of %-14zu %7.2f ms  %6.0f GFLOP/s (both triangles counted)\n", cols, s * 1e3,
                2.0 * static_cast<double>(tokens * cols * cols) / s / 1e9);
    s = median_of([&] { inverse_cholesky_upper(gram, 1.0, upper); });
    std::printf("  inverse factor of %-4zu %7.2f ms\n", cols, s * 1e3);
  }
}

int run(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "model_torch_bench MODEL.gguf [threads] [sequences] [length]\n");
    return 2;
  }
  const auto number = [&](int index, int fallback) { return argc > index ? std::atoi(argv[index]) : fallback; };
  set_torch_threads(number(2, 0));
  const size_t sequences = static_cast<size_t>(number(3, 16)), length = static_cast<size_t>(number(4, 512));
  const ModelPtr model = load_model(argv[1]);
  std::printf("%d threads\n", torch_room::pool_threads());
  whole_pass(*model, sequences, length);
  const DenseWeights weights = load_block(*model, 0);
  Activations x{sequences, length, random_matrix(sequences * length, model->spec.width)};
  const Activations g = x;
  const double forward = seconds_of([&] {
    Activations y = x;
    run_block(model->spec, 0, weights, y, {});
  });
  const double backward = seconds_of([&] { backward_block(model->spec, 0, weights, x, g, {}); });
  std::printf("one block: forward %.3f s, gradient of its input (forward again included) %.3f s\n", forward, backward);
  parts(model->spec, std::max<size_t>(1, 1024 / length), length);
  return 0;
}

}  // namespace
}  // namespace whit

int main(int argc, char** argv) {
  try {
    return whit::run(argc, argv);
  } catch (const whit::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return error.exit_code();
  }
}
