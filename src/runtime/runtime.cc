#include "runtime/runtime.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "base/error.h"
#include "runtime/attention.h"
#include "runtime/cpu/dispatch.h"
#include "runtime/linear.h"

namespace whit {
namespace {

// Tokens that go through the layers together. A panel of weights is unpacked once for all of them (a few per cent of
// the products at this size), and their activations still fit the cache beside it.
constexpr size_t kBlockTokens = 256;
// Floats of logit rows that exist at a time: 64 rows of a vocabulary of 49152 are 12 MiB.
constexpr size_t kLogitFloats = size_t{64} * 49152;

struct Norm {
  std::vector<float> gain, bias;  // bias of layer norms
};

// A linear and what is added to its output; empty: nothing.
struct Projection {
  Linear linear;
  std::vector<float> bias;
};

struct Layer {
  Norm attention_norm, feed_forward_norm, attention_branch_norm, feed_forward_branch_norm;
  std::vector<float> query_norm, key_norm;  // of every head
  Projection qkv, attention_output, gate_up, down;
};

cpu::Curve curve_of(Activation activation) {
  switch (activation) {
    case Activation::silu: return cpu::Curve::silu;
    case Activation::relu: return cpu::Curve::relu;
    case Activation::gelu: return cpu::Curve::gelu;
    case Activation::gelu_tanh: return cpu::Curve::gelu_tanh;
  }
  check_failed("an activation without a kernel", __FILE__, __LINE__);
}

class RuntimeScorer;

class RuntimeSession final : public ScorerSession {
 public:
  RuntimeSession(std::shared_ptr<const RuntimeScorer> scorer, size_t context);
  void feed(std::span<const int32_t> ids, size_t first_row, const RowVisitor& visitor) override;
  size_t position() const noexcept override { return position_; }
  void reset() noexcept override { position_ = 0; }
  void truncate(size_t position) override {
    check_truncation(position, position_);
    position_ = position;
  }

 private:
  void embed(std::span<const int32_t> ids);
  void layer(const Layer& weights, size_t index, size_t tokens);
  void make_angles(size_t tokens);
  // A head's queries or keys at token t of the block.
  void rotate(size_t index, size_t t, float* head) const;
  void norm(const Norm& by, const float* x, float* out) const;
  void multiply(const Projection& by, const float* x, size_t tokens, float* out, size_t stride);
  // Rows of `count` numbers: none has grown out of bounds.
  void check(const float* rows, size_t tokens, size_t stride, size_t count, const char* what);
  // What a branch reads, in normed_; what becomes of the product of its last linear with `rows`.
  void open_branch(const Norm& by, size_t tokens);
  void close_branch(const Projection& last, const float* rows, const Norm& branch_norm, const Norm& after,
                    size_t tokens);
  void head(size_t begin, size_t end, size_t first_position, const RowVisitor& visitor);
  template <class Body>
  void each_token(size_t tokens, const Body& body);

  std::shared_ptr<const RuntimeScorer> scorer_;
  const ModelSpec& spec_;
  const cpu::Kernels& kernels_;
  size_t context_, block_, position_ = 0;
  int64_t at_ = -1;  // block of the model; outside: -1
  Multiplier multiplier_;
  Attention attention_;
  // [block_] rows of row_stride(columns) floats
  size_t width_stride_, embedded_stride_, qkv_stride_, attended_stride_, gate_up_stride_, inner_stride_;
  Buffer<float> hidden_, embedded_, normed_, projected_, qkv_, attended_, gate_up_, inner_, cosine_, sine_,
      stream_scratch_, logits_;
  std::vector<float> position_row_;
  std::vector<std::vector<double>> inverse_frequencies_;  // of every rotary base
};

class RuntimeScorer final : public Scorer, public std::enable_shared_from_this<RuntimeScorer> {
 public:
  RuntimeScorer(ModelPtr model, ThreadPool& pool, const RuntimeOptions& options)
      : model_(std::move(model)),
        pool_(pool),
        kernels_(cpu::kernels_of(isa_in_use(options))),
        activations_(options.activations) {
    const ModelSpec& s = model_->spec;
    check(s);
    const auto linear = [&](std::initializer_list<std::pair<std::string, Shape>> wanted) {
      std::vector<TensorView> views;
      for (const auto& [name, shape] : wanted) views.push_back(model_->need(name, shape));
      return Linear(views, activations_);
    };
    for (uint64_t n = 0; n < s.layers; ++n) {
      const std::string block = "blk." + std::to_string(n) + ".";
      std::map<std::string, Shape> shapes;
      for (const TensorSpec& tensor : block_tensors(s, n)) shapes.emplace(tensor.name, tensor.shape);
      const auto vector = [&](const std::string& name) {
        const auto found = shapes.find(block + name);
        return found == shapes.end() ? std::vector<float>() : model_->vector(block + name, found->second.cols);
      };
      const auto norm = [&](const std::string& name) { return Norm{vector(name + ".weight"), vector(name + ".bias")}; };
      const auto project = [&](std::initializer_list<std::string> members) {
        std::vector<TensorView> views;
        std::vector<float> bias;
        bool any = false;
        for (const std::string& member : members) {
          const Shape shape = shapes.at(block + member + ".weight");
          views.push_back(model_->need(block + member + ".weight", shape));
          std::vector<float> own = vector(member + ".bias");
          any = any || !own.empty();
          own.resize(shape.rows, 0.0f);
          bias.insert(bias.end(), own.begin(), own.end());
        }
        return Projection{Linear(views, activations_), any ? bias : std::vector<float>()};
      };
      Layer layer;
      layer.attention_norm = norm("attn_norm");
      layer.feed_forward_norm = norm("ffn_norm");
      layer.attention_branch_norm = norm("post_attention_norm");
      layer.feed_forward_branch_norm = norm("post_ffw_norm");
      layer.query_norm = vector("attn_q_norm.weight");
      layer.key_norm = vector("attn_k_norm.weight");
      layer.qkv = project({"attn_q", "attn_k", "attn_v"});
      layer.attention_output = project({"attn_output"});
      layer.gate_up = s.gated ? project({"ffn_gate", "ffn_up"}) : project({"ffn_up"});
      layer.down = project({"ffn_down"});
      layers_.push_back(std::move(layer));
    }
    embedding_ = linear({{"token_embd.weight", {s.vocabulary, s.embedded()}}});
    if (s.projects()) {
      project_in_ = linear({{"project_in.weight", {s.width, s.embedding_width}}});
      project_out_ = linear({{"project_out.weight", {s.embedding_width, s.width}}});
    }
    output_ = linear({{s.output_name(), {s.vocabulary, s.embedded()}}});
    for (const Layer& layer : layers_)
      for (const Projection* one : {&layer.qkv, &layer.attention_output, &layer.gate_up, &layer.down})
        widest_ = std::max(widest_, one->linear.widest());
    for (const Linear* one : {&embedding_, &output_, &project_in_, &project_out_})
      widest_ = std::max(widest_, one->widest());
    if (s.final_norm) output_norm_.gain = model_->vector("output_norm.weight", s.width);
    if (s.final_norm && s.norm == NormKind::layer) output_norm_.bias = model_->vector("output_norm.bias", s.width);
    if (s.positions == PositionKind::learned)
      positions_ = model_->need("position_embd.weight", {s.context + s.position_offset, s.width});
    if (s.stream_rotation) stream_ = Rotator(s.stream_rotation);
    curve_ = curve_of(s.activation);
  }

  const ModelSpec& spec() const noexcept override { return model_->spec; }
  std::unique_ptr<ScorerSession> open(size_t context) const override {
    if (context == 0)
      throw Error(ErrorKind::usage, "a session needs a context of at least one token", "--context", "0");
    return std::make_unique<RuntimeSession>(shared_from_this(), context);
  }
  std::string executor() const override { return "runtime"; }
  std::string activations() const override { return activations_ == ActivationType::int8 ? "int8" : "fp32"; }

 private:
  friend class RuntimeSession;
  // What no file may say.
  void check(const ModelSpec& s) const {
    const std::string where = model_->path.string();
    for (const RotarySpec& rotary : s.rotaries)
      if (rotary.dimensions > s.head_size || rotary.dimensions % 2 != 0)
        throw Error(ErrorKind::input, "the number of rotated elements does not fit the heads", where,
                    std::to_string(rotary.dimensions) + " of " + std::to_string(s.head_size));
    WHIT_CHECK(s.kv_heads != 0 && s.heads % s.kv_heads == 0 && s.head_size != 0);
  }

  ModelPtr model_;
  ThreadPool& pool_;
  cpu::Kernels kernels_;
  ActivationType activations_;
  std::vector<Layer> layers_;
  Linear embedding_, output_, project_in_, project_out_;
  size_t widest_ = 0;  // of all linears
  Norm output_norm_;
  TensorView positions_;  // learned ones
  Rotator stream_;        // of the residual stream between look-up and final norm
  cpu::Curve curve_ = cpu::Curve::silu;
};

RuntimeSession::RuntimeSession(std::shared_ptr<const RuntimeScorer> scorer, size_t context)
    : scorer_(std::move(scorer)),
      spec_(scorer_->spec()),
      kernels_(scorer_->kernels_),
      context_(context),
      block_(std::min(context, kBlockTokens)),
      multiplier_(kernels_, scorer_->pool_, scorer_->widest_, block_),
      attention_(spec_, kernels_, scorer_->pool_, context),
      width_stride_(row_stride(spec_.width)),
      embedded_stride_(row_stride(spec_.embedded())),
      qkv_stride_(row_stride((spec_.heads + 2 * spec_.kv_heads) * spec_.head_size)),
      attended_stride_(row_stride(spec_.heads * spec_.head_size)),
      gate_up_stride_(row_stride((spec_.gated ? 2 : 1) * spec_.feed_forward)),
      inner_stride_(row_stride(spec_.feed_forward)),
      hidden_(block_ * width_stride_),
      embedded_(spec_.projects() ? block_ * embedded_stride_ : 0),
      normed_(block_ * width_stride_),
      projected_(block_ * width_stride_),
      qkv_(block_ * qkv_stride_),
      attended_(block_ * attended_stride_),
      gate_up_(block_ * gate_up_stride_),
      inner_(block_ * inner_stride_),
      cosine_(spec_.rotaries.size() * block_ * spec_.head_size),
      sine_(spec_.rotaries.size() * block_ * spec_.head_size),
      stream_scratch_(scorer_->stream_ ? block_ * Rotator::scratch_size(spec_.width) : 0),
      position_row_(scorer_->positions_ ? spec_.width : 0) {
  for (const RotarySpec& rotary : spec_.rotaries) inverse_frequencies_.push_back(rotary.inverse_frequencies(context));
}

template <class Body>
void RuntimeSession::each_token(size_t tokens, const Body& body) {
  if (tokens < 8) {
    for (size_t t = 0; t < tokens; ++t) body(t);
    return;
  }
  multiplier_.pool().parallel_for(tokens, 1, [&](size_t begin, size_t end, int) {
    for (size_t t = begin; t < end; ++t) body(t);
  });
}

void RuntimeSession::embed(std::span<const int32_t> ids) {
  const auto scale = static_cast<float>(spec_.embedding_scale);
  for (size_t t = 0; t < ids.size(); ++t) {
    float* row = spec_.projects() ? embedded_.data() + t * embedded_stride_ : hidden_.data() + t * width_stride_;
    multiplier_.unpack_row(scorer_->embedding_, static_cast<size_t>(ids[t]), row);
    if (scale != 1)
      for (size_t i = 0; i < spec_.embedded(); ++i) row[i] *= scale;
    check(row, 1, 0, spec_.embedded(), "token_embd");
  }
  if (spec_.projects())
    multiplier_.multiply(scorer_->project_in_, embedded_.data(), ids.size(), hidden_.data(), width_stride_);
  for (size_t t = 0; scorer_->positions_ && t < ids.size(); ++t) {
    float* row = hidden_.data() + t * width_stride_;
    unpack_rows(scorer_->positions_, learned_row(spec_, position_ + t), 1, position_row_);
    kernels_.add(position_row_.data(), spec_.width, row);
  }
  if (spec_.projects() || scorer_->positions_) check(hidden_.data(), ids.size(), width_stride_, spec_.width, "token_embd");
  if (!scorer_->stream_) return;
  each_token(ids.size(), [&](size_t t) {
    float* row = hidden_.data() + t * width_stride_;
    scorer_->stream_.invert(kernels_, row, stream_scratch_.data() + t * Rotator::scratch_size(spec_.width), row);
  });
}

// Cosines and sines of the block's positions as the kernels want them, for every rotary base: neighbours each twice, the
// sine of the first of a pair negated; halves once.
void RuntimeSession::make_angles(size_t tokens) {
  if (spec_.positions != PositionKind::rotary) return;
  const bool halves = spec_.pairs == RotaryPairs::halves;
  for (size_t base = 0; base < spec_.rotaries.size(); ++base)
    each_token(tokens, [&](size_t t) {
      const RotarySpec& rotary = spec_.rotaries[base];
      float* cosine = cosine_.data() + (base * block_ + t) * spec_.head_size;
      float* sine = sine_.data() + (base * block_ + t) * spec_.head_size;
      for (size_t i = 0; i < rotary.dimensions / 2; ++i) {
        const double angle = static_cast<double>(position_ + t) * inverse_frequencies_[base][i];
        const float c = static_cast<float>(std::cos(angle) * rotary.attention_factor);
        const float s = static_cast<float>(std::sin(angle) * rotary.attention_factor);
        if (halves) {
          cosine[i] = c;
          sine[i] = s;
          continue;
        }
        cosine[2 * i] = cosine[2 * i + 1] = c;
        sine[2 * i] = -s;
        sine[2 * i + 1] = s;
      }
    });
}

void RuntimeSession::rotate(size_t index, size_t t, float* head) const {
  const size_t base = spec_.block(index).rotary, at = (base * block_ + t) * spec_.head_size;
  const auto kernel = spec_.pairs == RotaryPairs::halves ? kernels_.rotate_halves : kernels_.rotate;
  kernel(cosine_.data() + at, sine_.data() + at, spec_.rotaries[base].dimensions, head);
}

void RuntimeSession::norm(const Norm& by, const float* x, float* out) const {
  const auto epsilon = static_cast<float>(spec_.norm_epsilon);
  if (spec_.norm == NormKind::layer)
    kernels_.layer_norm(x, by.gain.data(), by.bias.data(), epsilon, spec_.width, out);
  else
    kernels_.rms_norm(x, by.gain.data(), epsilon, spec_.width, out);
}

void RuntimeSession::multiply(const Projection& by, const float* x, size_t tokens, float* out, size_t stride) {
  multiplier_.multiply(by.linear, x, tokens, out, stride);
  if (by.bias.empty()) return;
  each_token(tokens, [&](size_t t) { kernels_.add(by.bias.data(), by.bias.size(), out + t * stride); });
}

void RuntimeSession::check(const float* rows, size_t tokens, size_t stride, size_t count, const char* what) {
  each_token(tokens, [&](size_t t) { check_activations({rows + t * stride, count}, at_, what); });
}

void RuntimeSession::open_branch(const Norm& by, size_t tokens) {
  each_token(tokens, [&](size_t t) {
    const float* row = hidden_.data() + t * width_stride_;
    float* out = normed_.data() + t * width_stride_;
    if (spec_.norm_after)
      std::copy_n(row, spec_.width, out);
    else
      norm(by, row, out);
    check_activations({out, spec_.width}, at_, "norm");
  });
}

void RuntimeSession::close_branch(const Projection& last, const float* rows, const Norm& branch_norm,
                                  const Norm& after, size_t tokens) {
  multiply(last, rows, tokens, projected_.data(), width_stride_);
  each_token(tokens, [&](size_t t) {
    float *row = hidden_.data() + t * width_stride_, *out = projected_.data() + t * width_stride_;
    if (spec_.branch_norms) {
      check_activations({out, spec_.width}, at_, "branch");
      norm(branch_norm, out, out);
    }
    kernels_.add(out, spec_.width, row);
    check_activations({row, spec_.width}, at_, "sum");
    if (spec_.norm_after) norm(after, row, row);
  });
}

void RuntimeSession::layer(const Layer& weights, size_t index, size_t tokens) {
  const auto epsilon = static_cast<float>(spec_.norm_epsilon);
  const size_t inner = spec_.feed_forward, head_size = spec_.head_size;
  const size_t keys_at = spec_.heads * head_size, values_at = keys_at + spec_.kv_heads * head_size;
  const bool rotated = spec_.rotary_of(index) != nullptr;
  at_ = static_cast<int64_t>(index);
  open_branch(weights.attention_norm, tokens);
  multiply(weights.qkv, normed_.data(), tokens, qkv_.data(), qkv_stride_);
  check(qkv_.data(), tokens, qkv_stride_, weights.qkv.linear.rows(), "attn_qkv");
  each_token(tokens, [&](size_t t) {
    float* row = qkv_.data() + t * qkv_stride_;
    for (size_t h = 0; h < spec_.heads + spec_.kv_heads; ++h) {
      float* head = row + h * head_size;
      if (spec_.head_norms) {
        const std::vector<float>& gain = h < spec_.heads ? weights.query_norm : weights.key_norm;
        kernels_.rms_norm(head, gain.data(), epsilon, head_size, head);
      }
      if (rotated) rotate(index, t, head);
    }
    attention_.store(index, position_ + t, row + keys_at, row + values_at);
  });
  attention_.attend(index, position_, tokens, qkv_.data(), qkv_stride_, attended_.data(), attended_stride_);
  close_branch(weights.attention_output, attended_.data(), weights.attention_branch_norm, weights.attention_norm, tokens);

  open_branch(weights.feed_forward_norm, tokens);
  multiply(weights.gate_up, normed_.data(), tokens, gate_up_.data(), gate_up_stride_);
  check(gate_up_.data(), tokens, gate_up_stride_, weights.gate_up.linear.rows(), "ffn_up");
  each_token(tokens, [&](size_t t) {
    const float* gate = gate_up_.data() + t * gate_up_stride_;
    kernels_.activate(scorer_->curve_, gate, spec_.gated ? gate + inner : nullptr, inner,
                      inner_.data() + t * inner_stride_);
    check_activations({inner_.data() + t * inner_stride_, inner}, at_, "ffn_down");
  });
  close_branch(weights.down, inner_.data(), weights.feed_forward_branch_norm, weights.feed_forward_norm, tokens);
}

// Logits of the block's tokens [begin, end), whose first one is at first_position, a chunk of rows at a time.
void RuntimeSession::head(size_t begin, size_t end, size_t first_position, const RowVisitor& visitor) {
  at_ = -1;
  const size_t vocabulary = spec_.vocabulary, chunk = std::clamp<size_t>(kLogitFloats / vocabulary, 1, block_);
  for (size_t t = begin; t < end; t += chunk) {
    const size_t count = std::min(chunk, end - t);
    each_token(count, [&](size_t i) {
      float* row = hidden_.data() + (t + i) * width_stride_;
      if (scorer_->stream_)
        scorer_->stream_.apply(kernels_, row, stream_scratch_.data() + i * Rotator::scratch_size(spec_.width), row);
      if (spec_.final_norm)
        norm(scorer_->output_norm_, row, normed_.data() + i * width_stride_);
      else
        std::copy_n(row, spec_.width, normed_.data() + i * width_stride_);
      check_activations({normed_.data() + i * width_stride_, spec_.width}, -1, "output_norm");
    });
    logits_.reserve(count * vocabulary);
    const float* rows = normed_.data();
    if (spec_.projects()) {
      multiplier_.multiply(scorer_->project_out_, rows, count, embedded_.data(), embedded_stride_);
      rows = embedded_.data();
      check(rows, count, embedded_stride_, spec_.embedded(), "project_out");
    }
    multiplier_.multiply(scorer_->output_, rows, count, logits_.data(), vocabulary);
    check(logits_.data(), count, vocabulary, vocabulary, "output");
    cap_logits(spec_, {logits_.data(), count * vocabulary});
    for (size_t i = 0; i < count; ++i)
      visitor(first_position + t - begin + i, {logits_.data() + i * vocabulary, vocabulary});
  }
}

void RuntimeSession::feed(std::span<const int32_t> ids, size_t first_row, const RowVisitor& visitor) {
  check_fed_ids(spec_, ids, position_, context_);
  at_ = -1;
  while (!ids.empty()) {
    const size_t tokens = std::min(ids.size(), block_), first = position_;
    embed(ids.first(tokens));
    make_angles(tokens);
    for (size_t n = 0; n < scorer_->layers_.size(); ++n) layer(scorer_->layers_[n], n, tokens);
    position_ += tokens;
    const size_t begin = first_row <= first ? 0 : std::min(first_row - first, tokens);
    if (begin < tokens) head(begin, tokens, first + begin, visitor);
    ids = ids.subspan(tokens);
  }
}

}  // namespace

std::vector<std::string> available_isas() { return cpu::levels(); }

std::string isa_in_use(const RuntimeOptions& options) { return cpu::choose_level(options.isa); }

std::shared_ptr<const Scorer> make_runtime(ModelPtr model, ThreadPool& pool, const RuntimeOptions& options) {
  return std::make_shared<RuntimeScorer>(std::move(model), pool, options);
}

}  // namespace whit
