#include "runtime/attention.h"

#include <algorithm>
#include <cstring>

#include "model/spec/score_bound.h"

namespace whit {
namespace {

// Queries that share a key head in one item: enough to fill the tiles of gemm_f32, few enough that their scores stay in
// cache.
constexpr size_t kQueryRows = 48;

}  // namespace

Attention::Attention(const ModelSpec& spec, const cpu::Kernels& kernels, ThreadPool& pool, size_t context)
    : kernels_(kernels),
      pool_(pool),
      heads_(spec.heads),
      kv_heads_(spec.kv_heads),
      head_size_(spec.head_size),
      context_(round_up(std::max<size_t>(context, 1), cpu::kPanel)),
      value_stride_(round_up(spec.head_size, cpu::kPanel)),
      query_tokens_(std::max<size_t>(1, kQueryRows / (spec.heads / spec.kv_heads))),
      keys_(checked_mul(spec.layers * spec.kv_heads, checked_mul(context_, head_size_, "--context"), "--context")),
      values_(checked_mul(spec.layers * spec.kv_heads, checked_mul(context_, value_stride_, "--context"), "--context")),
      workers_(static_cast<size_t>(pool.threads())) {
  for (uint64_t block = 0; block < spec.layers; ++block) {
    windows_.push_back(spec.block(block).window);
    scales_.push_back(static_cast<float>(spec.scale(block)));
  }
  const size_t rows = query_tokens_ * (heads_ / kv_heads_);
  for (Worker& worker : workers_) {
    worker.queries = Buffer<float>(rows * head_size_);
    worker.scores = Buffer<float>(rows * (context_ + 16));
    worker.out = Buffer<float>(rows * head_size_);
  }
}

void Attention::store(size_t layer, size_t position, const float* keys, const float* values) {
  for (size_t head = 0; head < kv_heads_; ++head) {
    float* panel = keys_of(layer, head) + position / cpu::kPanel * cpu::kPanel * head_size_ + position % cpu::kPanel;
    for (size_t i = 0; i < head_size_; ++i) panel[i * cpu::kPanel] = keys[head * head_size_ + i];
    std::memcpy(values_of(layer, head) + position * value_stride_, values + head * head_size_,
                head_size_ * sizeof(float));
  }
}

// Positions first + [begin, end) against one key head.
void Attention::item(Worker& worker, size_t layer, size_t first, size_t head, size_t begin, size_t end,
                     const float* queries, size_t stride, float* out, size_t out_stride) {
  const size_t group = heads_ / kv_heads_, rows = (end - begin) * group;
  const size_t window = windows_[layer];
  const float scale = scales_[layer];
  float* q = worker.queries.data();
  for (size_t t = begin; t < end; ++t) {
    const float* from = queries + t * stride + head * group * head_size_;
    float* to = q + (t - begin) * group * head_size_;
    for (size_t i = 0; i < group * head_size_; ++i) to[i] = from[i] * scale;
  }
  // Panels that any row of the item sees: from the window of its first position to its last one.
  const size_t last = first + end;  // one past the last key
  const size_t oldest = window != 0 && first + begin + 1 > window ? first + begin + 1 - window : 0;
  const size_t first_panel = oldest / cpu::kPanel, panels = (last + cpu::kPanel - 1) / cpu::kPanel;
  const size_t base = first_panel * cpu::kPanel, width = panels * cpu::kPanel - base, score_stride = width + 16;
  float* scores = worker.scores.data();
  for (size_t p = first_panel; p < panels; ++p)
    kernels_.gemm_f32(q, head_size_, rows, keys_of(layer, head) + p * cpu::kPanel * head_size_, cpu::kPanel, head_size_,
                      scores + p * cpu::kPanel - base, score_stride, cpu::kPanel);
  for (size_t r = 0; r < rows; ++r) {
    const size_t position = first + begin + r / group;
    const size_t from = window != 0 && position + 1 > window ? position + 1 - window : 0;
    const size_t seen = std::max(from, base) - base, end_of_seen = position + 1 - base;
    check_scores({scores + r * score_stride + seen, end_of_seen - seen}, 1.0f);
    kernels_.softmax(scores + r * score_stride, seen, end_of_seen, width);
  }
  for (size_t column = 0; column < head_size_; column += cpu::kPanel)
    kernels_.gemm_f32(scores, score_stride, rows, values_of(layer, head) + base * value_stride_ + column, value_stride_,
                      last - base, worker.out.data() + column, head_size_, std::min(cpu::kPanel, head_size_ - column));
  for (size_t t = begin; t < end; ++t)
    std::memcpy(out + t * out_stride + head * group * head_size_, worker.out.data() + (t - begin) * group * head_size_,
                group * head_size_ * sizeof(float));
}

void Attention::attend(size_t layer, size_t first, size_t tokens, const float* queries, size_t stride, float* out,
                       size_t out_stride) {
  const size_t chunks = (tokens + query_tokens_ - 1) / query_tokens_, items = chunks * kv_heads_;
  const auto run = [&](Worker& worker, size_t i) {
    const size_t begin = i / kv_heads_ * query_tokens_;
    item(worker, layer, first, i % kv_heads_, begin, std::min(begin + query_tokens_, tokens), queries, stride, out,
         out_stride);
  };
  // Waking the pool costs as much as a few ten thousand multiplications.
  if (tokens == 1 && (first + 1) * heads_ * head_size_ < 65536) {
    for (size_t i = 0; i < items; ++i) run(workers_.front(), i);
    return;
  }
  // Later chunks see more keys, so items are dealt out in turn.
  const size_t workers = workers_.size();
  pool_.run([&](int which) {
    const size_t w = static_cast<size_t>(which);
    for (size_t i = w; i < items; i += workers) run(workers_[w], i);
  });
}

}  // namespace whit
