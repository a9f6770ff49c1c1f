// The learning executor: blocks built from a ModelSpec, run with LibTorch on given dense weights. No torch header here.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "model/spec/model.h"
#include "model/spec/scorer.h"
#include "model/torch/matrix.h"
#include "model/torch/tensor.h"

namespace whit {

// Dense weights of one block (or of the ends) by tensor name: "blk.3.attn_q.weight" -> [rows, cols]; norms are [1, n].
using DenseWeights = std::map<std::string, Matrix>;

// All rows of a view, rotations undone, over the room's pool.
Matrix unpack_dense(const TensorView& view);
// Unpacks one block's tensors (norms and biases included).
DenseWeights load_block(const Model& model, uint64_t block);

// Sequences of equal length laid one after the other: [sequences * length, width].
struct Activations {
  size_t sequences = 0, length = 0;
  Matrix values;
};

// Called with the input of every unit of the block before it is used: unit kind ("attn_qkv", "attn_output",
// "ffn_gate_up", "ffn_down") and rows [tokens, cols] of some of the sequences; may be called several times per kind.
struct InputHook {
  std::function<void(const std::string& kind, MatrixView rows)> rows;
  // Called instead where blocks run on another device, if it is set: the rows then stay there.
  std::function<void(const std::string& kind, const Tensor& rows)> on_device;

  InputHook() = default;
  template <class Rows>
    requires std::is_invocable_v<const Rows&, const std::string&, MatrixView>
  InputHook(Rows called) : rows(std::move(called)) {}  // NOLINT: a hook is what it calls
  explicit operator bool() const noexcept { return static_cast<bool>(rows); }
  void operator()(const std::string& kind, MatrixView view) const { rows(kind, view); }
};

// Runs block `block` in place, a few sequences at a time so that scratch memory stays below scratch_bytes(spec,
// length).
void run_block(const ModelSpec& spec, uint64_t block, const DenseWeights& weights, Activations& activations,
               const InputHook& hook);
uint64_t block_scratch_bytes(const ModelSpec& spec, uint64_t length);

// The model's own basis to that of the residual stream between look-up and final norm (ModelSpec::stream_rotation), and
// back, [tokens, width]; nothing happens where there is none.
void to_stream(const ModelSpec& spec, Matrix& rows);
Matrix from_stream(const ModelSpec& spec, MatrixView rows);
// Rows of the embedding for the ids, scaled, with learned positions added, in the stream's basis: [ids, width]. Sequences of
// `length` lie one after the other (0: one), each at positions `offset` and on. ErrorKind::input for an id or a position
// that the model does not have. `embedding`: looked up in this matrix instead of the model's.
Matrix embed(const Model& model, std::span<const int32_t> ids, size_t length, size_t offset = 0,
             const TensorView& embedding = {});
// What the output matrix multiplies: the final norm, if there is one, of the stream turned back, and the projection out:
// [tokens, width] -> [tokens, ModelSpec::embedded()].
Matrix final_norm(const Model& model, MatrixView hidden);

// A gradient can be had at every block: given d loss / d output of a block, returns d loss / d input (recomputing the
// forward pass), and calls `hook` with unit kind and d loss / d (unit's output), [tokens, rows].
Activations backward_block(const ModelSpec& spec, uint64_t block, const DenseWeights& weights, const Activations& input,
                           const Activations& output_gradient, const InputHook& hook);

// Scorer over LibTorch. Unpacks weights block by block while it runs unless `resident`.
std::shared_ptr<const Scorer> make_torch_scorer(ModelPtr model, bool resident = true);
// The same on the learning device (device.h), everything resident there.
std::shared_ptr<const Scorer> make_device_scorer(const Model& model);
// All hidden states [layers + 1] of [ids, width]: after the embedding, after each block but the last, after the final
// norm of the last (as Hugging Face gives them).
std::vector<Matrix> torch_hidden_states(const Model& model, std::span<const int32_t> ids);

}  // namespace whit
