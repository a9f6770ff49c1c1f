#include "model/torch/writer.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/torch/block.h"
#include "model/torch/device_ops.h"
#include "model/torch/executor.h"
#include "model/torch/tensor_impl.h"
#include "model/torch/weights.h"

namespace whit {
namespace {

using torch_room::compute_type;
using torch_room::on_cuda;

// Bytes of keys and values that are held at a time.
constexpr uint64_t kCacheCpu = uint64_t{1} << 30, kCacheCuda = uint64_t{40} << 30;

at::Tensor constant(const Matrix& m) {
  return at::from_blob(const_cast<float*>(m.data.data()), {static_cast<int64_t>(m.rows), static_cast<int64_t>(m.cols)})
      .to(torch_room::learning_at_device(), compute_type(), false, /*copy=*/true);
}

}  // namespace

struct TextWriter::State {
  struct Block {
    at::Tensor attention_norm, qkv, output, feed_forward_norm, gate_up, down;
  };
  ModelSpec spec;
  at::Tensor embedding, norm, output;
  std::vector<Block> blocks;

  explicit State(const Model& model) : spec(model.spec) {
    if (spec.attention_bias || spec.feed_forward_bias || !spec.gated || spec.sliding_window != 0)
      throw Error(ErrorKind::usage, "this kind of model cannot write its own training text yet", "--data self",
                  spec.family, "--data FILE");
    embedding = constant(torch_room::unpack(model, "token_embd.weight", {spec.vocabulary, spec.width}));
    norm = constant(torch_room::unpack(model, "output_norm.weight", {1, spec.width}));
    output = spec.tied_output ? embedding
                              : constant(torch_room::unpack(model, "output.weight", {spec.vocabulary, spec.width}));
    for (uint64_t index = 0; index < spec.layers; ++index) {
      const DenseWeights weights = load_block(model, index);
      const std::string prefix = "blk." + std::to_string(index) + ".";
      const auto part = [&](const char* name) { return constant(weights.at(prefix + name + ".weight")); };
      blocks.push_back({part("attn_norm"), at::cat({part("attn_q"), part("attn_k"), part("attn_v")}, 0),
                        part("attn_output"), part("ffn_norm"), at::cat({part("ffn_gate"), part("ffn_up")}, 0),
                        part("ffn_down")});
    }
  }

  // x [sequences, heads, head_size] at one position: the pairs (2i, 2i + 1) turn by position * frequency i.
  at::Tensor rotated(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine) const {
    const int64_t size = x.size(-1), turned = static_cast<int64_t>(spec.rotary.dimensions);
    const at::Tensor pairs = x.narrow(-1, 0, turned).to(at::kFloat).reshape({x.size(0), x.size(1), turned / 2, 2});
    const at::Tensor a = pairs.select(-1, 0), b = pairs.select(-1, 1);
    const at::Tensor out =
        at::stack({a * cosine - b * sine, a * sine + b * cosine}, -1).flatten(-2).to(x.scalar_type());
    return turned == size ? out : at::cat({out, x.narrow(-1, turned, size - turned)}, -1);
  }

  std::vector<int32_t> write(std::span<const std::vector<int32_t>> starts, size_t length, uint64_t seed,
                             const std::function<void()>& token) const {
    const NoGrad guard;
    const auto count = static_cast<int64_t>(starts.size()), steps = static_cast<int64_t>(length);
    const auto heads = static_cast<int64_t>(spec.heads), kv = static_cast<int64_t>(spec.kv_heads),
               size = static_cast<int64_t>(spec.head_size), hidden = static_cast<int64_t>(spec.feed_forward);
    const at::Device device = torch_room::learning_at_device();
    at::Generator generator = at::globalContext().defaultGenerator(device);
    generator.set_current_seed(seed);

    // given[t][s]: the id that sequence s is forced to at position t, or -1.
    std::vector<int64_t> given(length * starts.size(), -1);
    for (size_t s = 0; s < starts.size(); ++s) {
      WHIT_CHECK(!starts[s].empty() && starts[s].size() < length);
      for (size_t t = 0; t < starts[s].size(); ++t) {
        WHIT_CHECK(starts[s][t] >= 0 && static_cast<uint64_t>(starts[s][t]) < spec.vocabulary);
        given[t * starts.size() + s] = starts[s][t];
      }
    }
    const at::Tensor forced = at::from_blob(given.data(), {steps, count}, at::kLong).to(device, false, /*copy=*/true);
    at::Tensor ids = forced.clone();
    const auto options = at::TensorOptions(compute_type()).device(device);
    std::vector<at::Tensor> keys, values;
    for (size_t block = 0; block < blocks.size(); ++block) {
      keys.push_back(at::empty({count * kv, steps, size}, options));
      values.push_back(at::empty({count * kv, steps, size}, options));
    }
    const std::vector<double> frequencies = spec.inverse_frequencies();
    const double scale = 1 / std::sqrt(static_cast<double>(size));
    for (int64_t t = 0; t + 1 < steps; ++t) {
      std::vector<float> angles[2];
      for (const double frequency : frequencies) {
        angles[0].push_back(
            static_cast<float>(spec.rotary.attention_factor * std::cos(static_cast<double>(t) * frequency)));
        angles[1].push_back(
            static_cast<float>(spec.rotary.attention_factor * std::sin(static_cast<double>(t) * frequency)));
      }
      const auto row = [&](std::vector<float>& from) {
        return at::from_blob(from.data(), {static_cast<int64_t>(from.size())}).to(device, false, /*copy=*/true);
      };
      const at::Tensor cosine = row(angles[0]), sine = row(angles[1]);
      at::Tensor x = embedding.index_select(0, ids.select(0, t));
      for (size_t index = 0; index < blocks.size(); ++index) {
        const Block& block = blocks[index];
        const at::Tensor all =
            torch_room::multiplied(torch_room::rms_norm(x, block.attention_norm, spec.norm_epsilon), block.qkv.t())
                .view({count, heads + 2 * kv, size});
        const at::Tensor turned = rotated(all.narrow(1, 0, heads + kv), cosine, sine);
        keys[index].select(1, t).copy_(turned.narrow(1, heads, kv).reshape({count * kv, size}));
        values[index].select(1, t).copy_(all.narrow(1, heads + kv, kv).reshape({count * kv, size}));
        const at::Tensor query = turned.narrow(1, 0, heads).reshape({count * kv, heads / kv, size});
        const at::Tensor weights = at::softmax(
            at::matmul(query * scale, keys[index].narrow(1, 0, t + 1).transpose(1, 2)), -1);
        const at::Tensor attended = at::matmul(weights, values[index].narrow(1, 0, t + 1));
        x = x + torch_room::multiplied(attended.reshape({count, heads * size}), block.output.t());
        const at::Tensor both =
            torch_room::multiplied(torch_room::rms_norm(x, block.feed_forward_norm, spec.norm_epsilon), block.gate_up.t());
        x = x + torch_room::multiplied(at::silu(both.narrow(1, 0, hidden)) * both.narrow(1, hidden, hidden), block.down.t());
      }
      const at::Tensor last = torch_room::rms_norm(x, norm, spec.norm_epsilon);
      const at::Tensor logits =
          on_cuda(x) ? torch_room::cuda_matmul_float(last, output.t()) : torch_room::multiplied(last, output.t());
      // argmax p / e with e exponential is a draw from p.
      at::Tensor noise = at::empty_like(logits);
      noise.exponential_(1, generator);
      const at::Tensor drawn = at::softmax(logits, 1).div_(noise).argmax(1);
      const at::Tensor wanted = forced.select(0, t + 1);
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
  const ModelSpec& spec = state_->spec;
  const bool cpu = compute_type() == at::kFloat;
  const uint64_t each = spec.layers * length * 2 * spec.kv_heads * spec.head_size * (cpu ? 4 : 2);
  return std::clamp<uint64_t>((cpu ? kCacheCpu : kCacheCuda) / std::max<uint64_t>(1, each), 1, 4096);
}

std::vector<int32_t> TextWriter::write(std::span<const std::vector<int32_t>> starts, size_t length, uint64_t seed,
                                       const std::function<void()>& token) {
  return state_->write(starts, length, seed, token);
}

}  // namespace whit
