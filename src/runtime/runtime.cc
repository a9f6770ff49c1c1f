#include "runtime/runtime.h"

#include <algorithm>
#include <cmath>
#include <cstring>

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

struct Layer {
  std::vector<float> attention_norm, feed_forward_norm;
  Linear qkv, attention_output, gate_up, down;
};

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
  void rotate(size_t tokens);
  void head(size_t begin, size_t end, size_t first_position, const RowVisitor& visitor);
  template <class Body>
  void each_token(size_t tokens, const Body& body);

  std::shared_ptr<const RuntimeScorer> scorer_;
  const ModelSpec& spec_;
  const cpu::Kernels& kernels_;
  size_t context_, block_, position_ = 0;
  Multiplier multiplier_;
  Attention attention_;
  // [block_] rows of row_stride(columns) floats
  size_t width_stride_, qkv_stride_, attended_stride_, gate_up_stride_, inner_stride_;
  Buffer<float> hidden_, normed_, projected_, qkv_, attended_, gate_up_, inner_, cosine_, sine_, stream_scratch_, logits_;
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
    const uint64_t queries = s.heads * s.head_size, keys = s.kv_heads * s.head_size;
    for (uint64_t n = 0; n < s.layers; ++n) {
      const std::string block = "blk." + std::to_string(n) + ".";
      Layer layer;
      layer.attention_norm = model_->vector(block + "attn_norm.weight", s.width);
      layer.feed_forward_norm = model_->vector(block + "ffn_norm.weight", s.width);
      layer.qkv = linear({{block + "attn_q.weight", {queries, s.width}},
                          {block + "attn_k.weight", {keys, s.width}},
                          {block + "attn_v.weight", {keys, s.width}}});
      layer.attention_output = linear({{block + "attn_output.weight", {s.width, queries}}});
      if (s.gated)
        layer.gate_up = linear({{block + "ffn_gate.weight", {s.feed_forward, s.width}},
                                {block + "ffn_up.weight", {s.feed_forward, s.width}}});
      else
        layer.gate_up = linear({{block + "ffn_up.weight", {s.feed_forward, s.width}}});
      layer.down = linear({{block + "ffn_down.weight", {s.width, s.feed_forward}}});
      layers_.push_back(std::move(layer));
    }
    if (!model_->need("token_embd.weight", {s.vocabulary, s.width}).tensor->rotation.outputs.empty())
      throw Error(ErrorKind::input, "an embedding with rotated outputs cannot be looked up row by row",
                  model_->path.string() + ": token_embd.weight");
    embedding_ = linear({{"token_embd.weight", {s.vocabulary, s.width}}});
    output_ = linear({{s.tied_output ? "token_embd.weight" : "output.weight", {s.vocabulary, s.width}}});
    for (const Layer& layer : layers_)
      for (const Linear* one : {&layer.qkv, &layer.attention_output, &layer.gate_up, &layer.down})
        widest_ = std::max(widest_, one->widest());
    widest_ = std::max({widest_, embedding_.widest(), output_.widest()});
    output_norm_ = model_->vector("output_norm.weight", s.width);
    if (s.stream_rotation) stream_ = Rotator(s.stream_rotation);
    inverse_frequencies_ = s.inverse_frequencies();
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
  // What the description may ask for and this executor cannot do yet.
  void check(const ModelSpec& s) const {
    const std::string where = model_->path.string();
    if (s.attention_bias || s.feed_forward_bias)
      throw Error(ErrorKind::input, "the runtime has no biases of projections yet", where, s.family);
    if (s.rotary.dimensions > s.head_size || s.rotary.dimensions % 2 != 0)
      throw Error(ErrorKind::input, "the number of rotated elements does not fit the heads", where,
                  std::to_string(s.rotary.dimensions) + " of " + std::to_string(s.head_size));
    WHIT_CHECK(s.kv_heads != 0 && s.heads % s.kv_heads == 0 && s.head_size != 0);
  }

  ModelPtr model_;
  ThreadPool& pool_;
  cpu::Kernels kernels_;
  ActivationType activations_;
  std::vector<Layer> layers_;
  Linear embedding_, output_;
  size_t widest_ = 0;  // of all linears
  std::vector<float> output_norm_;
  Rotator stream_;  // of the residual stream between look-up and final norm
  std::vector<double> inverse_frequencies_;
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
      qkv_stride_(row_stride((spec_.heads + 2 * spec_.kv_heads) * spec_.head_size)),
      attended_stride_(row_stride(spec_.heads * spec_.head_size)),
      gate_up_stride_(row_stride((spec_.gated ? 2 : 1) * spec_.feed_forward)),
      inner_stride_(row_stride(spec_.feed_forward)),
      hidden_(block_ * width_stride_),
      normed_(block_ * width_stride_),
      projected_(block_ * width_stride_),
      qkv_(block_ * qkv_stride_),
      attended_(block_ * attended_stride_),
      gate_up_(block_ * gate_up_stride_),
      inner_(block_ * inner_stride_),
      cosine_(block_ * spec_.rotary.dimensions),
      sine_(block_ * spec_.rotary.dimensions),
      stream_scratch_(scorer_->stream_ ? block_ * Rotator::scratch_size(spec_.width) : 0) {}

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
  for (size_t t = 0; t < ids.size(); ++t)
    multiplier_.unpack_row(scorer_->embedding_, static_cast<size_t>(ids[t]), hidden_.data() + t * width_stride_);
  if (!scorer_->stream_) return;
  each_token(ids.size(), [&](size_t t) {
    float* row = hidden_.data() + t * width_stride_;
    scorer_->stream_.invert(kernels_, row, stream_scratch_.data() + t * Rotator::scratch_size(spec_.width), row);
  });
}

// Cosines and sines of the block's positions, each twice, the sine of the first of a pair negated.
void RuntimeSession::rotate(size_t tokens) {
  const size_t dimensions = spec_.rotary.dimensions;
  each_token(tokens, [&](size_t t) {
    for (size_t i = 0; i < dimensions / 2; ++i) {
      const double angle = static_cast<double>(position_ + t) * scorer_->inverse_frequencies_[i];
      const float c = static_cast<float>(std::cos(angle) * spec_.rotary.attention_factor);
      const float s = static_cast<float>(std::sin(angle) * spec_.rotary.attention_factor);
      float* cosine = cosine_.data() + t * dimensions + 2 * i;
      float* sine = sine_.data() + t * dimensions + 2 * i;
      cosine[0] = cosine[1] = c;
      sine[0] = -s;
      sine[1] = s;
    }
  });
}

void RuntimeSession::layer(const Layer& weights, size_t index, size_t tokens) {
  const float epsilon = static_cast<float>(spec_.norm_epsilon);
  const size_t width = spec_.width, inner = spec_.feed_forward, head_size = spec_.head_size;
  each_token(tokens, [&](size_t t) {
    kernels_.rms_norm(hidden_.data() + t * width_stride_, weights.attention_norm.data(), epsilon, width,
                      normed_.data() + t * width_stride_);
  });
  multiplier_.multiply(weights.qkv, normed_.data(), tokens, qkv_.data(), qkv_stride_);
  const size_t keys_at = spec_.heads * head_size, values_at = keys_at + spec_.kv_heads * head_size;
  each_token(tokens, [&](size_t t) {
    float* row = qkv_.data() + t * qkv_stride_;
    const float* cosine = cosine_.data() + t * spec_.rotary.dimensions;
    const float* sine = sine_.data() + t * spec_.rotary.dimensions;
    for (size_t h = 0; h < spec_.heads + spec_.kv_heads; ++h)
      kernels_.rotate(cosine, sine, spec_.rotary.dimensions, row + h * head_size);
    attention_.store(index, position_ + t, row + keys_at, row + values_at);
  });
  attention_.attend(index, position_, tokens, qkv_.data(), qkv_stride_, attended_.data(), attended_stride_);
  multiplier_.multiply(weights.attention_output, attended_.data(), tokens, projected_.data(), width_stride_);
  each_token(tokens, [&](size_t t) {
    float* row = hidden_.data() + t * width_stride_;
    kernels_.add(projected_.data() + t * width_stride_, width, row);
    kernels_.rms_norm(row, weights.feed_forward_norm.data(), epsilon, width, normed_.data() + t * width_stride_);
  });
  multiplier_.multiply(weights.gate_up, normed_.data(), tokens, gate_up_.data(), gate_up_stride_);
  each_token(tokens, [&](size_t t) {
    const float* gate = gate_up_.data() + t * gate_up_stride_;
    if (spec_.gated)
      kernels_.silu_multiply(gate, gate + inner, inner, inner_.data() + t * inner_stride_);
    else
      kernels_.silu(gate, inner, inner_.data() + t * inner_stride_);
  });
  multiplier_.multiply(weights.down, inner_.data(), tokens, projected_.data(), width_stride_);
  each_token(tokens, [&](size_t t) {
    kernels_.add(projected_.data() + t * width_stride_, width, hidden_.data() + t * width_stride_);
  });
}

// Logits of the block's tokens [begin, end), whose first one is at first_position, a chunk of rows at a time.
void RuntimeSession::head(size_t begin, size_t end, size_t first_position, const RowVisitor& visitor) {
  const size_t vocabulary = spec_.vocabulary, chunk = std::clamp<size_t>(kLogitFloats / vocabulary, 1, block_);
  for (size_t t = begin; t < end; t += chunk) {
    const size_t count = std::min(chunk, end - t);
    each_token(count, [&](size_t i) {
      float* row = hidden_.data() + (t + i) * width_stride_;
      if (scorer_->stream_)
        scorer_->stream_.apply(kernels_, row, stream_scratch_.data() + i * Rotator::scratch_size(spec_.width), row);
      kernels_.rms_norm(row, scorer_->output_norm_.data(),
                        static_cast<float>(spec_.norm_epsilon), spec_.width, normed_.data() + i * width_stride_);
    });
    logits_.reserve(count * vocabulary);
    multiplier_.multiply(scorer_->output_, normed_.data(), count, logits_.data(), vocabulary);
    for (size_t i = 0; i < count; ++i)
      visitor(first_position + t - begin + i, {logits_.data() + i * vocabulary, vocabulary});
  }
}

void RuntimeSession::feed(std::span<const int32_t> ids, size_t first_row, const RowVisitor& visitor) {
  check_fed_ids(spec_, ids, position_, context_);
  while (!ids.empty()) {
    const size_t tokens = std::min(ids.size(), block_), first = position_;
    embed(ids.first(tokens));
    rotate(tokens);
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
