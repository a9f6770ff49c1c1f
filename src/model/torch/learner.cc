#include "model/torch/learner.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/spec/scorer.h"
#include "model/torch/block.h"
#include "model/torch/device_ops.h"
#include "model/torch/executor.h"
#include "model/torch/rotation.h"
#include "model/torch/tensor_impl.h"
#include "model/torch/weights.h"

namespace whit {
namespace {

using torch_room::compute_type;
using torch_room::on_cuda;
using torch_room::unwrap;
using torch_room::wrap;

// Rows of logits that exist at a time.
constexpr int64_t kRowsCpu = 256, kRowsCuda = 8192;

int64_t rows_at_once() { return compute_type() == at::kFloat ? kRowsCpu : kRowsCuda; }

at::Tensor constant(const Matrix& matrix) {
  const at::Tensor host =
      at::from_blob(const_cast<float*>(matrix.data.data()),
                    {static_cast<int64_t>(matrix.rows), static_cast<int64_t>(matrix.cols)});
  return host.to(torch_room::learning_at_device(), compute_type(), /*non_blocking=*/false, /*copy=*/true);
}

// What the output layer turns a batch of hidden states into.
struct HeadResult {
  at::Tensor loss;  // the mean over positions
  double positions = 0;
  at::Tensor hidden_gradient, output_gradient;  // undefined without learning
};

// LossParts on the device.
struct Sums {
  at::Tensor main, hidden;
  double positions = 0;
  LossParts parts() const { return {main.item<double>(), hidden.item<double>(), positions}; }
};

// d loss / d logits of rows [begin, begin + count) in place of the logits' own type, and the sum of their losses.
struct RowLoss {
  at::Tensor gradient, sum;
};

RowLoss kl_of(const at::Tensor& student, const at::Tensor& teacher, double scale, at::ScalarType type) {
  if (on_cuda(student)) {
    at::Tensor gradient, kl;
    torch_room::cuda_kl(student, teacher, scale, gradient, kl);
    return {gradient, kl.sum()};
  }
  const at::Tensor s = at::log_softmax(student, 1), t = at::log_softmax(teacher, 1);
  const at::Tensor p = t.exp();
  return {((s.exp() - p) * scale).to(type), (p * (t - s)).sum()};
}

// Rows whose target is negative do not count.
RowLoss cross_entropy_of(const at::Tensor& student, const at::Tensor& targets, double scale, at::ScalarType type) {
  const at::Tensor s = at::log_softmax(student, 1);
  const at::Tensor counts = (targets >= 0).to(at::kFloat).unsqueeze(1);
  const at::Tensor index = targets.clamp_min(0).unsqueeze(1);
  at::Tensor gradient = s.exp();
  gradient.scatter_add_(1, index, -counts);
  return {(gradient * (counts * scale)).to(type), -(s.gather(1, index) * counts).sum()};
}

}  // namespace

struct Learner::State {
  ModelSpec spec;
  bool checkpoint, taught;
  std::vector<LearnedWeights> teacher_blocks;
  at::Tensor teacher_output;
  LearnedWeights teacher_ends;
  at::Tensor stream;  // R of the residual stream; undefined where there is none

  // What a recorded step belongs to. It holds the leaves, so that no other student's can take their place unseen.
  struct Recording {
    std::vector<at::Tensor> leaves;
    size_t tokens = 0, sequences = 0;
    double hidden = 0;
    bool same(const Recording& other) const {
      return tokens == other.tokens && sequences == other.sequences && hidden == other.hidden &&
             std::equal(leaves.begin(), leaves.end(), other.leaves.begin(), other.leaves.end(),
                        [](const at::Tensor& a, const at::Tensor& b) { return a.is_same(b); });
    }
  };
  Recording seen;
  int repeated = 0;
  std::shared_ptr<torch_room::Graph> graph;
  at::Tensor recorded_index;
  Sums recorded_sums;
  std::vector<at::Tensor> gradients;  // where the recorded step leaves them

  State(const ModelSpec& model_spec, const Model* teacher, bool recompute)
      : spec(model_spec), checkpoint(recompute), taught(teacher != nullptr) {
    if (spec.stream_rotation) stream = unwrap(rotation_matrix(*spec.stream_rotation)).to(compute_type());
    if (!teacher) return;
    WHIT_CHECK(!spec.stream_rotation == !teacher->spec.stream_rotation);
    for (uint64_t block = 0; block < spec.layers; ++block) {
      LearnedWeights weights;
      for (const auto& [name, matrix] : load_block(*teacher, block)) weights.emplace(name, wrap(constant(matrix)));
      teacher_blocks.push_back(std::move(weights));
    }
    for (const TensorSpec& tensor : end_tensors(spec))
      teacher_ends.emplace(tensor.name, wrap(constant(torch_room::unpack(*teacher, tensor.name, tensor.shape))));
    teacher_output = unwrap(teacher_ends.at(spec.output_name()));
  }

  at::Tensor forward(const WeightSource& student, uint64_t block, const at::Tensor& x, size_t sequences) const {
    return unwrap(block_forward(spec, block, student.block(block), wrap(x), sequences));
  }

  at::Tensor device_ids(std::span<const int32_t> ids, size_t sequences) const {
    WHIT_CHECK(sequences > 0 && !ids.empty() && ids.size() % sequences == 0);
    for (const int32_t id : ids)
      if (id < 0 || static_cast<uint64_t>(id) >= spec.vocabulary)
        throw Error(ErrorKind::input, "a token id is outside the vocabulary", "training text", std::to_string(id));
    const std::vector<int64_t> wide(ids.begin(), ids.end());
    return at::from_blob(const_cast<int64_t*>(wide.data()), {static_cast<int64_t>(ids.size())}, at::kLong)
        .to(torch_room::learning_at_device(), false, /*copy=*/true);
  }

  // A matrix beside the blocks that is not learned.
  static at::Tensor beside(const LearnedWeights& ends, const char* name, uint64_t rows) {
    return unwrap(ends.at(name)).detach().reshape({static_cast<int64_t>(rows), -1}).to(compute_type());
  }

  // What enters the first block.
  at::Tensor begin(const LearnedWeights& ends, const at::Tensor& index, size_t sequences) const {
    at::Tensor x = unwrap(ends.at("token_embd.weight")).detach().to(compute_type()).index_select(0, index);
    if (spec.embedding_scale != 1) x = x * spec.embedding_scale;
    if (spec.projects()) x = torch_room::multiplied(x, beside(ends, "project_in.weight", spec.width).t());
    if (spec.positions == PositionKind::learned) {
      const int64_t width = x.size(1), length = x.size(0) / static_cast<int64_t>(sequences);
      (void)learned_row(spec, static_cast<uint64_t>(length) - 1);
      const at::Tensor rows = beside(ends, "position_embd.weight", spec.context + spec.position_offset);
      const at::Tensor positions = rows.narrow(0, static_cast<int64_t>(spec.position_offset), length);
      x = (x.view({static_cast<int64_t>(sequences), length, width}) + positions).reshape({-1, width});
    }
    return stream.defined() ? torch_room::multiplied(x, stream) : x;  // rows: (R^T x)^T = x^T R
  }

  // Hidden states that the output matrix multiplies, from what the last block gave.
  at::Tensor finish(const LearnedWeights& ends, const at::Tensor& last) const {
    const at::Tensor turned = stream.defined() ? torch_room::multiplied(last, stream.t()) : last;
    const auto to_output = [&](const at::Tensor& x) {
      if (!spec.projects()) return x;
      return torch_room::multiplied(x, beside(ends, "project_out.weight", spec.embedding_width).t());
    };
    if (!spec.final_norm) return to_output(turned);
    const at::Tensor bias = spec.norm == NormKind::layer ? unwrap(ends.at("output_norm.bias")) : at::Tensor();
    return to_output(torch_room::norm(spec.norm, turned, unwrap(ends.at("output_norm.weight")), bias, spec.norm_epsilon));
  }

  LossParts step(const WeightSource& student, std::span<const int32_t> ids, size_t sequences, double hidden) {
    const at::Tensor index = device_ids(ids, sequences);
    if (!on_cuda(index)) return run(student, index, sequences, hidden, true).parts();
    const std::vector<Tensor> leaves = student.leaves();
    bool fresh = true;
    Recording wanted{{}, ids.size(), sequences, hidden};
    for (const Tensor& leaf : leaves) {
      fresh = fresh && !leaf.grad();
      wanted.leaves.push_back(unwrap(leaf));
    }
    if (!fresh || !wanted.same(seen)) {  // another shape or student, or the first time
      graph.reset();
      repeated = 0;
      seen = wanted;
      return run(student, index, sequences, hidden, true).parts();
    }
    if (++repeated < 3) return run(student, index, sequences, hidden, true).parts();  // libraries set themselves up
    if (!graph) {
      recorded_index = index.clone();
      graph = torch_room::record_graph([&] { recorded_sums = run(student, recorded_index, sequences, hidden, true); });
      gradients.clear();
      for (const Tensor& leaf : leaves) gradients.push_back(unwrap(leaf).grad());
    }
    recorded_index.copy_(index);
    torch_room::replay_graph(*graph);
    for (size_t i = 0; i < leaves.size(); ++i) unwrap(leaves[i]).mutable_grad() = gradients[i];
    return recorded_sums.parts();
  }

  Sums run(const WeightSource& student, const at::Tensor& index, size_t sequences, double hidden, bool learn) const {
    const c10::AutoGradMode history(learn);
    const int64_t tokens = index.size(0);
    const LearnedWeights ends = student.ends();
    const at::Tensor embedding = unwrap(ends.at("token_embd.weight"));
    const at::Tensor output = spec.tied_output ? embedding : unwrap(ends.at("output.weight"));

    const size_t layers = spec.layers;
    std::vector<at::Tensor> inputs(layers), outputs(layers), pulls(layers);
    at::Tensor x, t, hidden_sum;
    {
      const NoGrad guard;
      x = begin(ends, index, sequences);
      if (taught) t = begin(teacher_ends, index, sequences);
      hidden_sum = at::zeros({}, x.options().dtype(at::kFloat));
    }
    const bool keep = learn && !checkpoint;
    for (size_t block = 0; block < layers; ++block) {
      if (taught) {
        const NoGrad guard;
        t = unwrap(block_forward(spec, block, teacher_blocks[block], wrap(t), sequences));
      }
      if (learn) inputs[block] = x.detach();
      if (keep) {
        inputs[block].set_requires_grad(true);
        outputs[block] = forward(student, block, inputs[block], sequences);
        x = outputs[block].detach();
      } else {
        const NoGrad guard;
        x = forward(student, block, x, sequences);
      }
      if (!taught || hidden <= 0) continue;
      const NoGrad guard;
      const double scale = 2 * hidden / static_cast<double>(layers) / static_cast<double>(tokens);
      if (on_cuda(x)) {
        at::Tensor ratio;
        torch_room::cuda_relative_error(x, t, scale, learn, pulls[block], ratio);
        hidden_sum += ratio.mean();
        continue;
      }
      const at::Tensor reference = t.to(at::kFloat), difference = x.to(at::kFloat) - reference;
      const at::Tensor size = (reference * reference).sum(-1, true).clamp_min(1e-12);
      hidden_sum += ((difference * difference).sum(-1, true) / size).mean();
      if (learn) pulls[block] = difference * (scale / size);
    }

    at::Tensor last = x.detach();
    if (learn) last.set_requires_grad(true);
    const at::Tensor normed = finish(ends, last);
    const HeadResult head = output_loss(normed.detach(), t, output.detach(), index, sequences, learn);
    const Sums sums{head.loss, hidden_sum / static_cast<double>(layers), head.positions};
    if (!learn) return sums;

    at::Tensor gradient = head.hidden_gradient;  // of a model without a final norm
    if (!normed.is_same(last)) {
      normed.backward(head.hidden_gradient);
      gradient = last.grad();
    }
    for (size_t block = layers; block-- > 0;) {
      if (pulls[block].defined()) gradient = gradient + pulls[block];
      at::Tensor y = outputs[block];
      if (!keep) {
        inputs[block].set_requires_grad(true);
        y = forward(student, block, inputs[block], sequences);
      }
      y.backward(gradient);
      gradient = inputs[block].grad();
      inputs[block] = outputs[block] = pulls[block] = at::Tensor();
    }
    at::Tensor embedding_gradient =
        spec.tied_output ? head.output_gradient : at::zeros(embedding.sizes(), embedding.options().dtype(at::kFloat));
    if (embedding.requires_grad()) {
      if (stream.defined()) gradient = torch_room::multiplied(gradient.to(compute_type()), stream.t());
      if (spec.projects())
        gradient = torch_room::multiplied(gradient.to(compute_type()), beside(ends, "project_in.weight", spec.width));
      if (spec.embedding_scale != 1) gradient = gradient * spec.embedding_scale;
      embedding_gradient.index_add_(0, index, gradient.to(at::kFloat));
      embedding.backward(embedding_gradient.to(embedding.scalar_type()));
    }
    if (!spec.tied_output && output.requires_grad()) output.backward(head.output_gradient.to(output.scalar_type()));
    return sums;
  }

  HeadResult output_loss(const at::Tensor& hidden, const at::Tensor& teacher_hidden, const at::Tensor& output,
                         const at::Tensor& index, size_t sequences, bool learn) const {
    const NoGrad guard;
    const at::ScalarType type = compute_type();
    const int64_t tokens = hidden.size(0), at_once = rows_at_once();
    const at::Tensor matrix = output.to(type), across = matrix.t();
    const at::Tensor taught_hidden = taught ? finish(teacher_ends, teacher_hidden) : at::Tensor();
    at::Tensor targets;
    HeadResult result;
    result.positions = static_cast<double>(tokens);
    if (!taught) {
      // The next token of the same sequence; the last position has none.
      const at::Tensor grid = index.view({static_cast<int64_t>(sequences), -1});
      at::Tensor next = grid.roll(-1, 1);
      next.select(1, -1).fill_(-1);
      targets = next.reshape({-1});
      result.positions -= static_cast<double>(sequences);
      if (result.positions < 1) throw Error(ErrorKind::input, "a training window has no next token to learn from");
    }
    if (learn) {
      result.hidden_gradient = at::empty_like(hidden);
      result.output_gradient = at::zeros(matrix.sizes(), hidden.options().dtype(at::kFloat));
    }
    at::Tensor sum = at::zeros({}, hidden.options().dtype(at::kFloat));
    const auto product = [](const at::Tensor& a, const at::Tensor& b) {
      return on_cuda(a) ? torch_room::cuda_matmul_float(a, b) : torch_room::multiplied(a, b);
    };
    for (int64_t first = 0; first < tokens; first += at_once) {
      const int64_t count = std::min(at_once, tokens - first);
      const at::Tensor rows = hidden.narrow(0, first, count);
      const at::Tensor logits = torch_room::capped(spec, product(rows, across));
      RowLoss loss =
          taught ? kl_of(logits,
                         torch_room::capped(spec, product(taught_hidden.narrow(0, first, count), teacher_output.t())),
                         1 / result.positions, type)
                 : cross_entropy_of(logits, targets.narrow(0, first, count), 1 / result.positions, type);
      sum += loss.sum;
      if (!learn) continue;
      if (const at::Tensor slope = torch_room::cap_slope(spec, logits); slope.defined())
        loss.gradient = (loss.gradient * slope).to(type);
      result.hidden_gradient.narrow(0, first, count).copy_(torch_room::multiplied(loss.gradient, matrix));
      result.output_gradient += product(loss.gradient.t(), rows);
    }
    result.loss = sum / result.positions;
    return result;
  }
};

Learner::Learner(const ModelSpec& spec, const Model* teacher, bool checkpoint)
    : state_(std::make_unique<State>(spec, teacher, checkpoint)) {}
Learner::~Learner() = default;

LossParts Learner::step(const WeightSource& student, std::span<const int32_t> ids, size_t sequences, double hidden) {
  return state_->step(student, ids, sequences, hidden);
}

LossParts Learner::loss(const WeightSource& student, std::span<const int32_t> ids, size_t sequences) {
  return state_->run(student, state_->device_ids(ids, sequences), sequences, 0, false).parts();
}

uint64_t Learner::bytes(const ModelSpec& spec, bool teacher, bool checkpoint, size_t sequences, size_t length,
                        uint64_t embedding) {
  const uint64_t tokens = sequences * length, element = compute_type() == at::kFloat ? 4 : 2;
  const uint64_t graph = block_graph_bytes(spec, tokens);
  const uint64_t stream = tokens * element * spec.width;
  const uint64_t block_weights = spec.weights() / std::max<uint64_t>(1, spec.layers) * 2 * 4;
  uint64_t bytes = (checkpoint ? 2 * graph : (spec.layers + 1) * graph) + 2 * spec.layers * stream;
  bytes += 4 * block_weights;
  const uint64_t rows = std::min<uint64_t>(tokens, static_cast<uint64_t>(rows_at_once()));
  bytes += rows * spec.vocabulary * 4 * (teacher ? 4 : 3) + spec.vocabulary * spec.embedded() * (4 + 2 * element);
  // What made the embedding: up to four arrays of its size, or of its factors', that its graph keeps (a grid with scales of
  // columns), and two gradients on the way back.
  bytes += std::max(spec.vocabulary * spec.embedded(), embedding) * 4 * 6;
  if (teacher) bytes += spec.weights() * element;
  return bytes;
}

}  // namespace whit
