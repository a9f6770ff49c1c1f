#include "model/torch/attention.h"

#include <algorithm>
#include <vector>

#include "model/spec/score_bound.h"
#include "model/torch/gemm.h"
#include "model/torch/kernels.h"

namespace whit::torch_room {
namespace {

// Queries at a time: their scores [128, length] stay in the second-level cache for lengths up to 2048.
constexpr size_t kQueries = 128;

// The keys that queries [first, last) of a sequence see at all: [begin, end).
struct KeyRange {
  size_t begin, end;
  size_t size() const noexcept { return end - begin; }
};
KeyRange visible_keys(const AttentionShape& shape, size_t first_position, size_t last_position) noexcept {
  const size_t begin = shape.window != 0 && first_position + 1 > shape.window ? first_position + 1 - shape.window : 0;
  return {begin, last_position + 1};
}

// scores[count, keys] = softmax of the scaled products of queries [first, first + count) of one head
void probabilities(const AttentionShape& shape, const AttentionSequence& s, size_t head, size_t first, size_t count,
                   KeyRange keys, float* scores) {
  const int64_t query_stride = static_cast<int64_t>(shape.query_width());
  const int64_t key_stride = static_cast<int64_t>(shape.key_width());
  const size_t kv_head = head / (shape.heads / shape.kv_heads);
  const float* query = s.query + first * shape.query_width() + head * shape.head_size;
  const float* key = s.key + keys.begin * shape.key_width() + kv_head * shape.head_size;
  gemm(static_cast<int64_t>(count), static_cast<int64_t>(keys.size()), static_cast<int64_t>(shape.head_size), 1.0f,
       {query, query_stride, 1}, {key, 1, key_stride}, 0.0f, scores, static_cast<int64_t>(keys.size()));
  for (size_t i = 0; i < count; ++i) {
    const size_t position = s.offset + first + i;
    const KeyRange own = visible_keys(shape, position, position);
    check_scores({scores + i * keys.size() + own.begin - keys.begin, own.size()}, shape.scale);
    masked_softmax(scores + i * keys.size(), keys.size(), own.begin - keys.begin, own.end - keys.begin, shape.scale);
  }
}

}  // namespace

size_t attention_scratch(size_t length) noexcept { return std::min(kQueries, length) * length; }

void attention_forward(const AttentionShape& shape, std::span<const AttentionSequence> sequences) {
  // Tasks: (sequence, head, block of queries), the block innermost, so that a worker's run of tasks reuses keys.
  struct Task {
    const AttentionSequence* sequence;
    size_t head, first, count;
  };
  std::vector<Task> tasks;
  size_t most_scores = 0;
  for (const AttentionSequence& s : sequences) {
    most_scores = std::max(most_scores, std::min(kQueries, s.queries) * (s.offset + s.queries));
    for (size_t head = 0; head < shape.heads; ++head)
      for (size_t first = 0; first < s.queries; first += kQueries)
        tasks.push_back({&s, head, first, std::min(kQueries, s.queries - first)});
  }
  const int64_t query_stride = static_cast<int64_t>(shape.query_width());
  const int64_t key_stride = static_cast<int64_t>(shape.key_width());
  run_parallel(tasks.size(), 1, [&](size_t begin, size_t end, int) {
    std::vector<float> scores(most_scores);
    for (size_t t = begin; t < end; ++t) {
      const auto& [s, head, first, count] = tasks[t];
      const KeyRange keys = visible_keys(shape, s->offset + first, s->offset + first + count - 1);
      probabilities(shape, *s, head, first, count, keys, scores.data());
      const size_t kv_head = head / (shape.heads / shape.kv_heads);
      gemm(static_cast<int64_t>(count), static_cast<int64_t>(shape.head_size), static_cast<int64_t>(keys.size()), 1.0f,
           {scores.data(), static_cast<int64_t>(keys.size()), 1},
           {s->value + keys.begin * shape.key_width() + kv_head * shape.head_size, key_stride, 1}, 0.0f,
           s->output + first * shape.query_width() + head * shape.head_size, query_stride);
    }
  });
}

void attention_backward(const AttentionShape& shape, std::span<const AttentionGradient> sequences) {
  const size_t group = shape.heads / shape.kv_heads;
  const size_t size = shape.head_size;
  const int64_t head_size = static_cast<int64_t>(size);
  const int64_t query_stride = static_cast<int64_t>(shape.query_width());
  const int64_t key_stride = static_cast<int64_t>(shape.key_width());
  const float scale = shape.scale;
  // All queries of one key head belong to one task, so that sums over them need no other worker.
  run_parallel(sequences.size() * shape.kv_heads, 1, [&](size_t begin, size_t end, int) {
    std::vector<float> p, dp;
    for (size_t task = begin; task < end; ++task) {
      const AttentionGradient& g = sequences[task / shape.kv_heads];
      const size_t kv_head = task % shape.kv_heads;
      const size_t length = g.forward.queries;
      for (float* sum : {g.key, g.value})
        for (size_t t = 0; t < length; ++t) std::fill_n(sum + t * shape.key_width() + kv_head * size, size, 0.0f);
      for (size_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
        for (size_t first = 0; first < length; first += kQueries) {
          const size_t count = std::min(kQueries, length - first);
          const KeyRange keys = visible_keys(shape, first, first + count - 1);
          const int64_t m = static_cast<int64_t>(count), n = static_cast<int64_t>(keys.size());
          p.resize(count * keys.size());
          dp.resize(count * keys.size());
          probabilities(shape, g.forward, head, first, count, keys, p.data());
          const size_t query_at = first * shape.query_width() + head * size;
          const size_t key_at = keys.begin * shape.key_width() + kv_head * size;
          // d value += p^T d output; d p = d output value^T
          gemm(n, head_size, m, 1.0f, {p.data(), 1, n}, {g.output + query_at, query_stride, 1}, 1.0f, g.value + key_at,
               key_stride);
          gemm(m, n, head_size, 1.0f, {g.output + query_at, query_stride, 1}, {g.forward.value + key_at, 1, key_stride},
               0.0f, dp.data(), n);
          // d scores = p * (d p - sum_j p d p), where p is 0 outside the mask
          for (size_t i = 0; i < count; ++i) {
            float* d = dp.data() + i * keys.size();
            const float* q = p.data() + i * keys.size();
            const float mean = dot(q, d, keys.size());
            for (size_t j = 0; j < keys.size(); ++j) d[j] = q[j] * (d[j] - mean);
          }
          gemm(m, head_size, n, scale, {dp.data(), n, 1}, {g.forward.key + key_at, key_stride, 1}, 0.0f,
               g.query + query_at, query_stride);
          gemm(n, head_size, m, scale, {dp.data(), 1, n}, {g.forward.query + query_at, query_stride, 1}, 1.0f,
               g.key + key_at, key_stride);
        }
    }
  });
}

}  // namespace whit::torch_room
