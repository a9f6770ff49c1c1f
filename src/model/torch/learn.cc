#include "model/torch/learn.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/torch/attention.h"
#include "model/torch/block.h"
#include "model/torch/device_ops.h"
#include "model/torch/gemm.h"
#include "model/torch/kernels.h"
#include "model/torch/tensor_impl.h"

namespace whit {
namespace torch_room {
namespace {

// What the attention of a block needs to know; alive as long as the graph.
struct AttentionPlan : torch::CustomClassHolder {
  AttentionShape shape;
  RotaryTable rotary;
  size_t sequences, length;
  AttentionPlan(const ModelSpec& spec, uint64_t block, size_t sequence_count, size_t sequence_length)
      : shape(spec, block), sequences(sequence_count), length(sequence_length) {
    if (const RotarySpec* found = spec.rotary_of(block)) rotary = RotaryTable(*found, spec.pairs, length);
    rotary.extend(length);
  }
};

// The three parts of qkv, packed; query and key rotated.
struct Parts {
  std::vector<float> query, key, value;
};
Parts rotated_parts(const AttentionPlan& plan, const at::Tensor& qkv) {
  const size_t tokens = static_cast<size_t>(qkv.size(0)), stride = static_cast<size_t>(qkv.size(1));
  const size_t query = plan.shape.query_width(), key = plan.shape.key_width();
  const float* from = qkv.data_ptr<float>();
  Parts parts{std::vector<float>(tokens * query), std::vector<float>(tokens * key), std::vector<float>(tokens * key)};
  run_parallel(tokens, 16, [&](size_t begin, size_t end, int) {
    for (size_t t = begin; t < end; ++t) {
      std::copy_n(from + t * stride, query, parts.query.data() + t * query);
      std::copy_n(from + t * stride + query, key, parts.key.data() + t * key);
      std::copy_n(from + t * stride + query + key, key, parts.value.data() + t * key);
      plan.rotary.rotate(parts.query.data() + t * query, plan.shape.heads, plan.shape.head_size, t % plan.length);
      plan.rotary.rotate(parts.key.data() + t * key, plan.shape.kv_heads, plan.shape.head_size, t % plan.length);
    }
  });
  return parts;
}

AttentionSequence sequence(const AttentionPlan& plan, const Parts& parts, size_t index, float* output) {
  const size_t first = index * plan.length;
  return {plan.length,
          0,
          parts.query.data() + first * plan.shape.query_width(),
          parts.key.data() + first * plan.shape.key_width(),
          parts.value.data() + first * plan.shape.key_width(),
          output};
}

// Rotary positions and causal attention: qkv [tokens, q + k + v] -> [tokens, q].
class Attention : public torch::autograd::Function<Attention> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& qkv,
                            const c10::intrusive_ptr<AttentionPlan>& plan) {
    const at::Tensor input = qkv.contiguous();
    context->save_for_backward({input});
    context->saved_data["plan"] = c10::IValue::make_capsule(plan);
    const Parts parts = rotated_parts(*plan, input);
    at::Tensor output = at::empty({input.size(0), static_cast<int64_t>(plan->shape.query_width())}, input.options());
    std::vector<AttentionSequence> work;
    for (size_t s = 0; s < plan->sequences; ++s)
      work.push_back(
          sequence(*plan, parts, s, output.data_ptr<float>() + s * plan->length * plan->shape.query_width()));
    attention_forward(plan->shape, work);
    return output;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto plan = c10::static_intrusive_pointer_cast<AttentionPlan>(context->saved_data.at("plan").toCapsule());
    const at::Tensor input = context->get_saved_variables().at(0);
    const at::Tensor output_gradient = gradients.at(0).contiguous();
    const Parts parts = rotated_parts(*plan, input);
    const size_t tokens = static_cast<size_t>(input.size(0)), stride = static_cast<size_t>(input.size(1));
    const size_t query = plan->shape.query_width(), key = plan->shape.key_width();
    Parts d{std::vector<float>(tokens * query), std::vector<float>(tokens * key), std::vector<float>(tokens * key)};
    std::vector<AttentionGradient> work;
    for (size_t s = 0; s < plan->sequences; ++s) {
      const size_t first = s * plan->length;
      work.push_back({sequence(*plan, parts, s, nullptr), output_gradient.data_ptr<float>() + first * query,
                      d.query.data() + first * query, d.key.data() + first * key, d.value.data() + first * key});
    }
    attention_backward(plan->shape, work);
    at::Tensor gradient = at::empty_like(input);
    float* to = gradient.data_ptr<float>();
    run_parallel(tokens, 16, [&](size_t begin, size_t end, int) {
      for (size_t t = begin; t < end; ++t) {
        plan->rotary.rotate_back(d.query.data() + t * query, plan->shape.heads, plan->shape.head_size,
                                 t % plan->length);
        plan->rotary.rotate_back(d.key.data() + t * key, plan->shape.kv_heads, plan->shape.head_size, t % plan->length);
        std::copy_n(d.query.data() + t * query, query, to + t * stride);
        std::copy_n(d.key.data() + t * key, key, to + t * stride + query);
        std::copy_n(d.value.data() + t * key, key, to + t * stride + query + key);
      }
    });
    return {gradient, at::Tensor()};
  }
};

// The matrices of a unit under each other, and its output for x.
class Linears {
 public:
  Linears(const ModelSpec& spec, uint64_t block, const LearnedWeights& weights) : weights_(weights) {
    prefix_ = "blk." + std::to_string(block) + ".";
    std::set<std::string> in_units;
    for (const UnitSpec& unit : units_of(spec)) {
      if (unit.block != static_cast<int64_t>(block) || !weights.contains(unit.name)) continue;
      if (weights.at(unit.name).count() != static_cast<int64_t>(unit.rows * unit.cols))
        throw Error(ErrorKind::input, "a unit of the block has another shape than the model's description", unit.name);
      in_units.insert(unit.members.begin(), unit.members.end());
    }
    for (const auto& [name, shape] : block_tensors(spec, block)) {
      if (in_units.contains(name)) continue;
      const auto found = weights.find(name);
      if (found == weights.end()) throw Error(ErrorKind::input, "a tensor of the block is missing", name);
      if (found->second.count() != static_cast<int64_t>(shape.count()))
        throw Error(ErrorKind::input, "a tensor of the block has another shape than the model's description", name);
    }
  }

  at::Tensor norm(const ModelSpec& spec, const std::string& name, const at::Tensor& x) const {
    const at::Tensor bias = spec.norm == NormKind::layer ? find(name + ".bias") : at::Tensor();
    return torch_room::norm(spec.norm, x, find(name + ".weight"), bias, spec.norm_epsilon);
  }

  at::Tensor apply(const std::string& unit, std::initializer_list<std::string> members, const at::Tensor& x) const {
    std::vector<at::Tensor> matrices, biases;
    const auto whole = weights_.find(prefix_ + unit + ".weight");
    if (whole != weights_.end()) matrices.push_back(unwrap(whole->second));
    for (const std::string& member : members) {
      if (whole == weights_.end()) matrices.push_back(find(member + ".weight"));
      if (weights_.contains(prefix_ + member + ".bias")) biases.push_back(find(member + ".bias").reshape({-1}));
    }
    const at::Tensor matrix = matrices.size() == 1 ? matrices[0] : at::cat(matrices, 0);
    at::Tensor out = multiplied(x, matrix.to(x.scalar_type()).t());
    if (!biases.empty() && biases.size() != members.size())
      throw Error(ErrorKind::input, "only some linears of a unit have a bias", prefix_ + unit);
    if (!biases.empty()) out = out + at::cat(biases, 0).to(x.scalar_type());
    return out;
  }

  const at::Tensor& find(const std::string& name) const { return unwrap(weights_.at(prefix_ + name)); }

 private:
  const LearnedWeights& weights_;
  std::string prefix_;
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& gain, double epsilon) {
  const at::Tensor row = gain.reshape({-1});
  if (on_cuda(x)) return cuda_rms_norm(x, row, epsilon);
  return x * at::rsqrt((x * x).mean(-1, /*keepdim=*/true) + epsilon) * row;
}

at::Tensor norm(NormKind kind, const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias, double epsilon) {
  if (kind == NormKind::rms) return rms_norm(x, gain, epsilon);
  const auto row = [&](const at::Tensor& values) { return values.reshape({-1}).to(x.scalar_type()); };
  return at::layer_norm(x, {x.size(-1)}, row(gain), row(bias), epsilon);
}

at::Tensor head_norms(const ModelSpec& spec, const at::Tensor& qkv, const at::Tensor& query_gain,
                      const at::Tensor& key_gain) {
  const auto heads = static_cast<int64_t>(spec.heads), kv = static_cast<int64_t>(spec.kv_heads);
  const at::Tensor all = qkv.view({qkv.size(0), heads + 2 * kv, static_cast<int64_t>(spec.head_size)});
  const at::Tensor query = rms_norm(all.narrow(1, 0, heads).contiguous(), query_gain, spec.norm_epsilon),
                   key = rms_norm(all.narrow(1, heads, kv).contiguous(), key_gain, spec.norm_epsilon);
  return at::cat({query, key, all.narrow(1, heads + kv, kv)}, 1).reshape(qkv.sizes());
}

at::Tensor activated(const ModelSpec& spec, const at::Tensor& x) {
  const auto f = [&](const at::Tensor& in) {
    switch (spec.activation) {
      case Activation::silu: return at::silu(in);
      case Activation::relu: return at::relu(in);
      case Activation::gelu: return at::gelu(in, "none");
      case Activation::gelu_tanh: return at::gelu(in, "tanh");
    }
    return in;
  };
  if (!spec.gated) return f(x);
  if (x.scalar_type() == at::kBFloat16 && on_cuda(x) && spec.activation == Activation::silu) return cuda_silu_multiply(x);
  const int64_t hidden = x.size(1) / 2;
  return f(x.narrow(1, 0, hidden)) * x.narrow(1, hidden, hidden);
}

at::Tensor capped(const ModelSpec& spec, const at::Tensor& logits) {
  return spec.logit_cap == 0 ? logits : (logits / spec.logit_cap).tanh_().mul_(spec.logit_cap);
}

// d (c tanh(y / c)) / d y = 1 - tanh^2
at::Tensor cap_slope(const ModelSpec& spec, const at::Tensor& capped_logits) {
  return spec.logit_cap == 0 ? at::Tensor() : 1 - (capped_logits / spec.logit_cap).square();
}

at::Tensor turn_pairs(RotaryPairs pairs, const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine) {
  const int64_t size = x.size(-1), half = cosine.size(-1), turned = 2 * half;
  const bool neighbours = pairs == RotaryPairs::neighbours;
  const int64_t axis = neighbours ? -1 : -2;  // of [half, 2] or [2, half]
  const at::Tensor part = x.narrow(-1, 0, turned).to(at::kFloat);
  const at::Tensor both = neighbours ? part.unflatten(-1, {half, 2}) : part.unflatten(-1, {2, half});
  const at::Tensor a = both.select(axis, 0), b = both.select(axis, 1);
  const at::Tensor out =
      at::stack({a * cosine - b * sine, a * sine + b * cosine}, axis).flatten(-2).to(x.scalar_type());
  return turned == size ? out : at::cat({out, x.narrow(-1, turned, size - turned)}, -1);
}

Angles rotary_angles(const RotarySpec& rotary, int64_t offset, int64_t positions, uint64_t context) {
  std::vector<double> values = rotary.inverse_frequencies(context);
  const at::Tensor frequencies = at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, at::kDouble);
  const at::Tensor angles = (at::arange(offset, offset + positions, at::kDouble).unsqueeze(1) * frequencies).unsqueeze(1);
  const auto on_device = [&](const at::Tensor& table) {
    return (table * rotary.attention_factor).to(at::kFloat).to(learning_at_device());
  };
  return {on_device(angles.cos()), on_device(angles.sin())};
}

at::Tensor unseen_keys(int64_t offset, int64_t positions, int64_t end, uint64_t window, const at::Device& device) {
  const at::Tensor query = at::arange(offset, offset + positions).unsqueeze(1), key = at::arange(end).unsqueeze(0);
  at::Tensor unseen = key > query;
  if (window > 0) unseen = unseen.logical_or(key <= query - static_cast<int64_t>(window));
  return unseen.to(device);
}

// Dense weights where learning happens, in float.
LearnedWeights constants_of(const DenseWeights& weights) {
  LearnedWeights constants;
  for (const auto& [name, matrix] : weights)
    constants.emplace(name, wrap(at::from_blob(const_cast<float*>(matrix.data.data()),
                                               {static_cast<int64_t>(matrix.rows), static_cast<int64_t>(matrix.cols)})
                                     .to(learning_at_device())));
  return constants;
}

void run_block_on_device(const ModelSpec& spec, uint64_t block, const DenseWeights& weights, Activations& activations,
                         const InputHook& hook) {
  // Enough to keep the device busy: some 100 MB of rows.
  constexpr size_t kTokens = 16384;
  const NoGrad guard;
  const LearnedWeights constants = constants_of(weights);
  const size_t length = activations.length, at_once = std::max<size_t>(1, kTokens / length);
  UnitTap tap;
  if (hook)
    tap = [&](const std::string& kind, const Tensor& input) {
      if (hook.on_device)
        hook.on_device(kind, input);
      else
        hook(kind, input.matrix());
    };
  for (size_t first = 0; first < activations.sequences; first += at_once) {
    const size_t count = std::min(at_once, activations.sequences - first);
    Matrix& values = activations.values;
    const Tensor x = Tensor::from({values.row(first * length), count * length, values.cols, values.cols});
    const Matrix y = block_forward(spec, block, constants, x, count, {}, tap).matrix();
    std::copy(y.data.begin(), y.data.end(), values.row(first * length));
  }
}

}  // namespace torch_room

using torch_room::unwrap;
using torch_room::wrap;

Tensor block_forward(const ModelSpec& spec, uint64_t block, const LearnedWeights& weights, const Tensor& input,
                     size_t sequences, const UnitTap& outputs, const UnitTap& inputs) {
  const torch_room::Linears linears(spec, block, weights);
  at::Tensor x = unwrap(input);
  WHIT_CHECK(x.dim() == 2 && x.size(1) == static_cast<int64_t>(spec.width));
  WHIT_CHECK(sequences > 0 && x.size(0) % static_cast<int64_t>(sequences) == 0);
  const size_t length = static_cast<size_t>(x.size(0)) / sequences;
  const auto through = [&](const char* kind, std::initializer_list<std::string> members, const at::Tensor& in) {
    if (inputs) inputs(kind, wrap(in));
    const at::Tensor out = linears.apply(kind, members, in);
    if (outputs) outputs(kind, wrap(out));
    return out;
  };
  // What a branch reads, and the stream after it gave `out`.
  const auto open = [&](const char* name) { return spec.norm_after ? x : linears.norm(spec, name, x); };
  const auto close = [&](const at::Tensor& out, const char* branch_norm, const char* after) {
    x = x + (spec.branch_norms ? linears.norm(spec, branch_norm, out) : out);
    if (spec.norm_after) x = linears.norm(spec, after, x);
  };

  at::Tensor qkv = through("attn_qkv", {"attn_q", "attn_k", "attn_v"}, open("attn_norm"));
  if (spec.head_norms)
    qkv = torch_room::head_norms(spec, qkv, linears.find("attn_q_norm.weight"), linears.find("attn_k_norm.weight"));
  at::Tensor attended;
  if (torch_room::on_cuda(qkv))
    attended = torch_room::cuda_attention(spec, block, qkv, sequences, length);
  else
    attended = torch_room::Attention::apply(
        qkv, c10::make_intrusive<torch_room::AttentionPlan>(spec, block, sequences, length));
  close(through("attn_output", {"attn_output"}, attended), "post_attention_norm", "attn_norm");

  const at::Tensor in = open("ffn_norm");
  const at::Tensor projected =
      spec.gated ? through("ffn_gate_up", {"ffn_gate", "ffn_up"}, in) : through("ffn_up", {"ffn_up"}, in);
  close(through("ffn_down", {"ffn_down"}, torch_room::activated(spec, projected)), "post_ffw_norm", "ffn_norm");
  return wrap(x);
}

uint64_t block_graph_bytes(const ModelSpec& spec, uint64_t tokens) {
  const uint64_t query = spec.heads * spec.head_size, key = spec.kv_heads * spec.head_size;
  const uint64_t element = torch_room::compute_type() == at::kFloat ? 4 : 2;
  // What a block's graph keeps a token: both norms and their inputs, qkv and its rotated copy, attention, gate, up and
  // their product (twice: silu and the product), and as much again for gradients in flight.
  return tokens * element * (6 * spec.width + 3 * (query + 2 * key) + 2 * query + 5 * spec.feed_forward);
}

Activations backward_block(const ModelSpec& spec, uint64_t block, const DenseWeights& weights, const Activations& input,
                           const Activations& output_gradient, const InputHook& hook) {
  WHIT_CHECK(input.values.rows == input.sequences * input.length && input.values.cols == spec.width);
  WHIT_CHECK(output_gradient.values.rows == input.values.rows && output_gradient.values.cols == input.values.cols);
  Activations result{input.sequences, input.length, Matrix(input.values.rows, input.values.cols)};
  if (input.length == 0) return result;
  const LearnedWeights constants = torch_room::constants_of(weights);
  const auto rows = [&](const Matrix& m, size_t first, size_t count) {
    return MatrixView(m.row(first * input.length), count * input.length, m.cols, m.cols);
  };
  const size_t at_once = torch_room::sequences_at_once(input.length);
  for (size_t first = 0; first < input.sequences; first += at_once) {
    const size_t count = std::min(at_once, input.sequences - first);
    Tensor x = Tensor::from(rows(input.values, first, count)).requires_grad();
    std::vector<std::pair<std::string, Tensor>> outputs;
    const Tensor y =
        block_forward(spec, block, constants, x, count, [&](const std::string& kind, const Tensor& output) {
          if (!hook) return;
          output.retain_grad();
          outputs.emplace_back(kind, output);
        });
    y.backward(Tensor::from(rows(output_gradient.values, first, count)));
    for (const auto& [kind, output] : outputs) hook(kind, output.grad().matrix());
    const Matrix gradient = x.grad().matrix();
    std::copy(gradient.data.begin(), gradient.data.end(), result.values.row(first * input.length));
  }
  return result;
}

}  // namespace whit
