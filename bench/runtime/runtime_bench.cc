// Products of every stored format on real shapes, beside the machine's peaks (run with one thread):
//   build/bench/bench/runtime/runtime_bench --benchmark_filter=q4_1
// GB/s counts stored bytes of weights, GFLOP/s two operations a weight and token.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <memory>

#include "base/rng.h"
#include "format/format.h"
#include "runtime/cpu/dispatch.h"
#include "runtime/linear.h"
#include "runtime/peaks.h"

namespace whit {
namespace {

// Random bytes make valid codes; parameters are set apart through the format, so that no NaN slows the products.
std::shared_ptr<const Packed> random_packed(const FormatPtr& format, Shape shape) {
  Rng rng(1);
  if (const auto affine = as_affine(format)) {
    AffineCodes codes;
    codes.shape = shape;
    for (uint64_t i = 0; i < shape.count(); ++i)
      codes.codes.push_back(static_cast<uint8_t>(rng.below(affine->levels())));
    codes.parameters.groups_per_row = (shape.cols + affine->group(shape.cols) - 1) / affine->group(shape.cols);
    codes.parameters.scale.assign(shape.rows * codes.parameters.groups_per_row, 0.01f);
    codes.parameters.minimum.assign(codes.parameters.scale.size(),
                                    affine->symmetric() ? -0.01f * static_cast<float>(affine->centre()) : -0.05f);
    if (affine->has_columns()) codes.parameters.column.assign(shape.cols, 1.0f);
    affine->round_parameters(shape, codes.parameters);
    return std::make_shared<Packed>(affine->pack(codes));
  }
  // Rounding to K types takes a while: a few rows, again and again.
  const Shape few{std::min<uint64_t>(shape.rows, 16), shape.cols};
  std::vector<float> weights;
  for (uint64_t i = 0; i < few.count(); ++i) weights.push_back(static_cast<float>(rng.normal()));
  const Packed rounded = pack_rounded(format, few, weights);
  auto packed = std::make_shared<Packed>(Packed{format, shape, {{}}});
  while (packed->parts[0].size() < format->bytes(shape))
    packed->parts[0].insert(packed->parts[0].end(), rounded.parts[0].begin(), rounded.parts[0].end());
  packed->parts[0].resize(format->bytes(shape));
  return packed;
}

void product(benchmark::State& state, const FormatPtr& format, Shape shape, size_t tokens, ActivationType activations) {
  const auto packed = random_packed(format, shape);
  const StoredTensor tensor = make_stored("weight", packed);
  const std::vector<TensorView> views = {{&tensor, 0, shape.rows}};
  const Linear linear(views, activations);
  ThreadPool pool(1);
  const cpu::Kernels kernels = cpu::kernels_of(cpu::choose_level(""));
  Multiplier multiplier(kernels, pool, shape.cols, tokens);
  Buffer<float> x(tokens * row_stride(shape.cols)), out(tokens * shape.rows);
  Rng rng(2);
  for (size_t t = 0; t < tokens; ++t)
    for (size_t j = 0; j < shape.cols; ++j) x.data()[t * row_stride(shape.cols) + j] = static_cast<float>(rng.normal());
  for (auto _ : state) {
    multiplier.multiply(linear, x.data(), tokens, out.data(), shape.rows);
    benchmark::ClobberMemory();
  }
  const double count = static_cast<double>(state.iterations());
  state.counters["GB/s"] =
      benchmark::Counter(count * static_cast<double>(packed->bytes()) * 1e-9, benchmark::Counter::kIsRate);
  state.counters["GFLOP/s"] = benchmark::Counter(
      count * 2e-9 * static_cast<double>(shape.count()) * static_cast<double>(tokens), benchmark::Counter::kIsRate);
}

void add_products(const std::string& name, const Json& options) {
  const FormatPtr format = make_format(name, options);
  // The default model's gate and up, its down, and a quarter of its head (more than the caches of one core); blocks of 256
  // weights need other widths.
  const uint64_t width = name.ends_with("_k") ? 768 : 576;
  for (const Shape shape : {Shape{3072, width}, Shape{576, 1536}, Shape{12288, width}})
    for (const size_t tokens : {size_t{1}, size_t{256}})
      for (const ActivationType activations : {ActivationType::fp32, ActivationType::int8}) {
        if (activations == ActivationType::int8 && !as_affine(format) && width == 576) continue;
        const std::string title = format->label() + "/" + std::to_string(shape.rows) + "x" +
                                  std::to_string(shape.cols) + "/" + std::to_string(tokens) +
                                  (activations == ActivationType::int8 ? "/int8" : "/fp32");
        benchmark::RegisterBenchmark(
            title.c_str(), [=](benchmark::State& state) { product(state, format, shape, tokens, activations); });
      }
}

}  // namespace
}  // namespace whit

int main(int argc, char** argv) {
  using whit::add_products;
  for (const char* name : {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"})
    add_products(name, whit::Json::object());
  for (const int bits : {2, 3, 4, 5, 6, 8}) add_products("grid", {{"bits", bits}, {"group", 32}});
  add_products("grid", {{"bits", 3}, {"group", 64}});
  benchmark::Initialize(&argc, argv);
  whit::ThreadPool pool(1);
  const whit::MachinePeaks peaks = whit::measure_machine_peaks(pool);
  std::printf("%s: read %.1f GB/s, %.0f GFLOP/s (one thread)\n", peaks.isa.c_str(), peaks.read_gigabytes_per_second,
              peaks.gigaflops);
  benchmark::RunSpecifiedBenchmarks();
}
