#include "model/torch/learn.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
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
  ModelSpec spec;
  AttentionShape shape;
  RotaryTable rotary;
  size_t sequences, length;
  AttentionPlan(const ModelSpec& s, size_t sequence_count, size_t sequence_length)
      : spec(s), shape(s), rotary(s), sequences(sequence_count), length(sequence_length) {
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

  at::Tensor norm(const std::string& name, const at::Tensor& x, double epsilon) const {
    return rms_norm(x, find(name + ".weight"), epsilon);
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
    if (!biases.empty()) out = out + at::cat(biases, 0).to(x.scalar_type());
    return out;
  }

 private:
  const at::Tensor& find(const std::string& name) const { return unwrap(weights_.at(prefix_ + name)); }
  const LearnedWeights& weights_;
  std::string prefix_;
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& gain, double epsilon) {
  const at::Tensor row = gain.reshape({-1});
  if (on_cuda(x)) return cuda_rms_norm(x, row, epsilon);
  return x * at::rsqrt((x * x).mean(-1, /*keepdim=*/true) + epsilon) * row;
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
  const int64_t hidden = static_cast<int64_t>(spec.feed_forward);

  const at::Tensor qkv =
      through("attn_qkv", {"attn_q", "attn_k", "attn_v"}, linears.norm("attn_norm", x, spec.norm_epsilon));
  at::Tensor attended;
  if (torch_room::on_cuda(qkv))
    attended = torch_room::cuda_attention(spec, qkv, sequences, length);
  else
    attended = torch_room::Attention::apply(
        qkv, c10::make_intrusive<torch_room::AttentionPlan>(spec, sequences, length));
  x = x + through("attn_output", {"attn_output"}, attended);

  const at::Tensor normed = linears.norm("ffn_norm", x, spec.norm_epsilon);
  at::Tensor activated;
  if (spec.gated) {
    const at::Tensor both = through("ffn_gate_up", {"ffn_gate", "ffn_up"}, normed);
    activated = both.scalar_type() == at::kBFloat16  // on CUDA alone
                    ? torch_room::cuda_silu_multiply(both)
                    : at::silu(both.narrow(1, 0, hidden)) * both.narrow(1, hidden, hidden);
  } else {
    activated = at::silu(through("ffn_up", {"ffn_up"}, normed));
  }
  return wrap(x + through("ffn_down", {"ffn_down"}, activated));
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
