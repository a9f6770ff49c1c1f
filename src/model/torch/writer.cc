#include "model/torch/writer.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/where.h>

#include <algorithm>

#include "base/error.h"
#include "model/torch/decoder.h"
#include "model/torch/device_ops.h"
#include "model/torch/tensor.h"

namespace whit {
namespace {

using torch_room::compute_type;

// Bytes of keys and values that are held at a time.
constexpr uint64_t kCacheCpu = uint64_t{1} << 30, kCacheCuda = uint64_t{40} << 30;

// Keys and values of one sequence.
uint64_t sequence_bytes(const ModelSpec& spec, size_t length, uint64_t number_bytes) {
  return spec.layers * length * 2 * spec.kv_heads * spec.head_size * number_bytes;
}
size_t sequences_in(uint64_t bytes, uint64_t each) {
  return std::clamp<uint64_t>(bytes / std::max<uint64_t>(1, each), 1, 4096);
}

}  // namespace

struct TextWriter::State {
  torch_room::Decoder decoder;
  explicit State(const Model& model) : decoder(model, compute_type()) {}

  std::vector<int32_t> write(std::span<const std::vector<int32_t>> starts, size_t length, uint64_t seed,
                             const std::function<void()>& token) const {
    const NoGrad guard;
    const auto count = static_cast<int64_t>(starts.size()), steps = static_cast<int64_t>(length);
    const at::Device device = torch_room::learning_at_device();
    at::Generator generator = at::globalContext().defaultGenerator(device);
    generator.set_current_seed(seed);

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
    torch_room::Decoder::Cache cache = decoder.open(count, steps);
    for (int64_t t = 0; t + 1 < steps; ++t) {
      const at::Tensor logits = decoder.logits(decoder.forward(ids.select(0, t).unsqueeze(1), cache));
      // argmax p / e with e exponential is a draw from p.
      at::Tensor noise = at::empty_like(logits);
      noise.exponential_(1, generator);
      const at::Tensor drawn = at::softmax(logits, 1).div_(noise).argmax(1), wanted = forced.select(0, t + 1);
      ids.select(0, t + 1).copy_(at::where(wanted >= 0, wanted, drawn));
      if (token) token();
    }
    const at::Tensor host = ids.t().to(at::kCPU).contiguous();
    const int64_t* data = host.data_ptr<int64_t>();
    return std::vector<int32_t>(data, data + host.numel());
  }
};

TextWriter::TextWriter(const Model& model) : state_(std::make_unique<State>(model)) {}
TextWriter::~TextWriter() = default;

size_t TextWriter::at_once(size_t length) const {
  const bool cpu = compute_type() == at::kFloat;
  return sequences_in(cpu ? kCacheCpu : kCacheCuda, sequence_bytes(state_->decoder.spec(), length, cpu ? 4 : 2));
}

uint64_t TextWriter::bytes(const ModelSpec& spec, size_t length) {
  const uint64_t each = sequence_bytes(spec, length, sizeof(float));
  // Logits, the noise, probabilities and what softmax makes on the way.
  return spec.weights() * sizeof(float) + sequences_in(kCacheCpu, each) * (each + 4 * spec.vocabulary * sizeof(float));
}

std::vector<int32_t> TextWriter::write(std::span<const std::vector<int32_t>> starts, size_t length, uint64_t seed,
                                       const std::function<void()>& token) {
  return state_->write(starts, length, seed, token);
}

}  // namespace whit
