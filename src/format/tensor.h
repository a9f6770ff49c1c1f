// What a stored tensor is: a shape, a format, and the bytes of the format's parts. Views only; an owner keeps them
// alive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "format/rotation.h"

namespace whit {

class Format;

// A matrix [rows = outputs, cols = inputs], row-major. A vector of n is {1, n}.
struct Shape {
  uint64_t rows = 0, cols = 0;
  uint64_t count() const noexcept { return rows * cols; }
  bool operator==(const Shape&) const = default;
};

// A member of a stack of tensors that read the same input: rows [begin, begin + count) of the stored matrix.
struct Member {
  std::string name;  // "blk.0.attn_q.weight"
  uint64_t begin = 0, count = 0;
};

struct StoredTensor {
  std::string name;  // "blk.0.attn_output.weight"; for a stack "blk.0.attn_qkv.weight", "blk.0.ffn_gate_up.weight"
  Shape shape;
  int dimensions = 2;  // as stored: 1 for vectors
  std::shared_ptr<const Format> format;
  // One span per part, in the order of Format::parts(); sizes agree with it (checked by whoever made this).
  std::vector<std::span<const std::byte>> parts;
  std::vector<Member> members;        // empty: the tensor itself is the only member
  UnitRotation rotation{};            // of what the parts hold; none of its ranges of outputs crosses a member
  // [cols], what columns are multiplied by before the rotation is undone: a norm's gain that was folded in. Null: nothing.
  // Of a model in another basis alone (model/spec/basis.h); no file has it.
  std::shared_ptr<const std::vector<float>> gain;
  // Not null: this tensor is L W diag(gain) R^T with `rotation` = (L, R), W the rows [inner_begin, + shape.rows) of `inner`
  // in its own basis. `parts` and `format` are those of `inner`, for reports only. Of a model whose residual stream was
  // turned back alone (model/spec/basis.h): it can be unpacked, not run or copied.
  std::shared_ptr<const StoredTensor> inner;
  uint64_t inner_begin = 0;
  std::shared_ptr<const void> owner;  // keeps the bytes alive
  // Not 0: the rows are stored in the half-split rotary order of Hugging Face folders, per head of this many rows.
  // Everything that reads rows sees GGUF order (row 2i = stored row i of the head, row 2i+1 = stored row i + head/2).
  uint64_t half_split_head = 0;

  uint64_t bytes() const noexcept {
    uint64_t sum = 0;
    for (const auto& part : parts) sum += part.size();
    return sum;
  }
  // The stored row that holds row `row` in GGUF order.
  uint64_t stored_row(uint64_t row) const noexcept {
    if (half_split_head == 0) return row;
    const uint64_t inside = row % half_split_head;
    return row - inside + (inside % 2) * (half_split_head / 2) + inside / 2;
  }
};

// A named matrix inside a stored tensor: all rows of it, or the rows of one member.
struct TensorView {
  const StoredTensor* tensor = nullptr;
  uint64_t begin = 0, rows = 0;
  explicit operator bool() const noexcept { return tensor != nullptr; }
  Shape shape() const noexcept { return {rows, tensor ? tensor->shape.cols : 0}; }
};

// Rows [begin, begin + count) of the tensor as its parts hold them, in GGUF order, [count, cols]: the gain is applied, the
// rotation is not undone.
void unpack_stored(const StoredTensor& tensor, uint64_t begin, uint64_t count, float* out);
// Rows [begin, begin + count) of the view as floats, [count, cols] row-major, GGUF row order, in the model's own basis:
// a rotation is undone. out.size() == count * cols. Where outputs are rotated, whole ranges of them are unpacked for
// any row.
void unpack_rows(const TensorView& view, uint64_t begin, uint64_t count, std::span<float> out);

}  // namespace whit
