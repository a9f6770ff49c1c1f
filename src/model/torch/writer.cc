#include "model/torch/writer.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/where.h>

#include <algorithm>

#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "model/torch/decoder.h"
#include "model/torch/device_ops.h"
#include "model/torch/gemm.h"
#include "model/torch/tensor.h"

namespace whit {
namespace {

// What it multiplies in: on the CPU bfloat16 where the processor multiplies that (oneDNN; twice as fast as float, and
// half the bytes of weights, keys and values), else float.
at::ScalarType writing_type() {
  if (torch_room::learning_at_device().is_cpu()) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512bf16") && at::globalContext().hasMKLDNN()) return at::kBFloat16;
#endif
    return at::kFloat;
  }
  return torch_room::compute_type();
}
uint64_t number_bytes() { return c10::elementSize(writing_type()); }

// Bytes of keys and values that are held at a time.
constexpr uint64_t kCacheCpu = uint64_t{1} << 30, kCacheCuda = uint64_t{40} << 30;

// Keys and values of one sequence.
uint64_t sequence_bytes(const ModelSpec& spec, size_t length) {
  return spec.layers * length * 2 * spec.kv_heads * spec.head_size * number_bytes();
}
// More sequences at a time are hardly faster: on the CPU the products of 64 reach nine tenths of the machine's rate.
size_t sequences_in(uint64_t each) {
  const bool cpu = torch_room::learning_at_device().is_cpu();
  return std::clamp<uint64_t>((cpu ? kCacheCpu : kCacheCuda) / std::max<uint64_t>(1, each), 1, cpu ? 64 : 4096);
}

// The place in p [n], which sums to 1 up to rounding, where the running sum passes `at`.
int64_t drawn_from(const float* p, int64_t n, double at) {
  double sum = 0;
  int64_t last = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (p[i] > 0) last = i;
    sum += p[i];
    if (sum > at) return i;
  }
  return last;
}

}  // namespace

struct TextWriter::State {
  torch_room::Decoder decoder;
  explicit State(const Model& model) : decoder(model, writing_type()) {}

  // Sequences that are written together: [first, first + count) of all.
  struct Share {
    int64_t first = 0, count = 0;
    torch_room::Decoder::Cache cache;
  };

  std::vector<int32_t> write(std::span<const std::vector<int32_t>> starts, size_t length, uint64_t seed,
                             const std::function<void()>& token) const {
    const NoGrad guard;
    const auto count = static_cast<int64_t>(starts.size()), steps = static_cast<int64_t>(length);
    const at::Device device = torch_room::learning_at_device();

    // given[t][s]: the id that sequence s is forced to at position t, or -1.
    std::vector<int64_t> given(length * starts.size(), -1);
    for (size_t s = 0; s < starts.size(); ++s) {
      WHIT_CHECK(!starts[s].empty() && starts[s].size() < length);
      for (size_t t = 0; t < starts[s].size(); ++t) {
        WHIT_CHECK(starts[s][t] >= 0 && static_cast<uint64_t>(starts[s][t]) < decoder.spec().vocabulary);
        given[t * starts.size() + s] = starts[s][t];
      }
    }
    const at::Tensor forced = at::from_blob(given.data(), {steps, count}, at::kLong).to(device, false, /*copy=*/true);
    at::Tensor ids = forced.clone();
    // Position t + 1 of a share.
    const auto step = [&](Share& share, int64_t t, const auto& draw) {
      const auto of = [&](const at::Tensor& rows, int64_t position) {
        return rows.select(0, position).narrow(0, share.first, share.count);
      };
      const at::Tensor logits = decoder.logits(decoder.forward(of(ids, t).unsqueeze(1), share.cache));
      const at::Tensor wanted = of(forced, t + 1);
      of(ids, t + 1).copy_(at::where(wanted >= 0, wanted, draw(logits)));
    };
    if (device.is_cpu()) {
      // Each worker writes sequences of its own and waits for no other within a step.
      const KeepFreedMemory kept;
      const SerialOperations serial;
      std::vector<Share> shares(static_cast<size_t>(torch_room::pool_threads()));
      Rng seeds(seed);
      std::vector<Rng> random;
      for (size_t s = 0; s < starts.size(); ++s) random.emplace_back(seeds.next());
      for (int64_t t = 0; t + 1 < steps; ++t) {
        torch_room::run_parallel(starts.size(), 1, [&](size_t begin, size_t end, int worker) {
          Share& share = shares[static_cast<size_t>(worker)];
          if (share.count == 0) {
            share.first = static_cast<int64_t>(begin);
            share.count = static_cast<int64_t>(end - begin);
            share.cache = decoder.open(share.count, steps);
          }
          step(share, t, [&](const at::Tensor& logits) {
            const at::Tensor p = at::softmax(logits, 1), next = at::empty({share.count}, at::kLong);
            for (int64_t s = 0; s < share.count; ++s)
              next.data_ptr<int64_t>()[s] = drawn_from(p.data_ptr<float>() + s * p.size(1), p.size(1),
                                                       random[static_cast<size_t>(share.first + s)].uniform());
            return next;
          });
        });
        if (token) token();
      }
    } else {
      at::Generator generator = at::globalContext().defaultGenerator(device);
      generator.set_current_seed(seed);
      Share all{0, count, decoder.open(count, steps)};
      for (int64_t t = 0; t + 1 < steps; ++t) {
        step(all, t, [&](const at::Tensor& logits) {
          // argmax p / e with e exponential is a draw from p.
          at::Tensor noise = at::empty_like(logits);
          noise.exponential_(1, generator);
          return at::softmax(logits, 1).div_(noise).argmax(1);
        });
        if (token) token();
      }
    }
    const at::Tensor host = ids.t().to(at::kCPU).contiguous();
    const int64_t* data = host.data_ptr<int64_t>();
    return std::vector<int32_t>(data, data + host.numel());
  }
};

TextWriter::TextWriter(const Model& model) : state_(std::make_unique<State>(model)) {}
TextWriter::~TextWriter() = default;

size_t TextWriter::at_once(size_t length) const { return sequences_in(sequence_bytes(state_->decoder.spec(), length)); }

uint64_t TextWriter::bytes(const ModelSpec& spec, size_t length) {
  const uint64_t each = sequence_bytes(spec, length);
  // oneDNN puts the largest matrix in an order of its own, in every worker.
  const uint64_t ordered = number_bytes() < sizeof(float) ? static_cast<uint64_t>(torch_room::pool_threads()) *
                                                                spec.vocabulary * spec.width * number_bytes()
                                                          : 0;
  // Logits as they are multiplied and in float, and probabilities.
  return spec.weights() * number_bytes() + ordered +
         sequences_in(each) * (each + spec.vocabulary * (number_bytes() + 2 * sizeof(float)));
}

std::vector<int32_t> TextWriter::write(std::span<const std::vector<int32_t>> starts, size_t length, uint64_t seed,
                                       const std::function<void()>& token) {
  return state_->write(starts, length, seed, token);
}

}  // namespace whit
