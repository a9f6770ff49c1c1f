#include "model/torch/weights.h"

#include "base/error.h"
#include "format/format.h"
#include "model/torch/block.h"
#include "model/torch/executor.h"
#include "model/torch/gemm.h"

namespace whit {
namespace torch_room {

void unpack(const TensorView& view, uint64_t begin, uint64_t count, float* out) {
  const StoredTensor& tensor = *view.tensor;
  const uint64_t cols = view.shape().cols;
  if (tensor.rotation.outputs.empty() || count != view.rows) {
    run_parallel(count, 8, [&](size_t first, size_t last, int) {
      unpack_rows(view, begin + first, last - first, std::span(out + first * cols, (last - first) * cols));
    });
    return;
  }
  // Rotated outputs need all rows of a column: first the rows as they are stored, then column by column.
  const UnitRotation rotation = tensor.rotation.rows(view.begin, view.rows);
  run_parallel(count, 8, [&](size_t first, size_t last, int) {
    float* rows = out + first * cols;
    unpack_stored(tensor, view.begin + first, last - first, rows);
    rotation.restore_inputs(rows, last - first, cols);
  });
  run_parallel(cols, 8, [&](size_t first, size_t last, int) { rotation.restore_outputs(out, cols, first, last); });
}

Matrix unpack(const Model& model, std::string_view name, Shape shape) { return unpack_dense(model.need(name, shape)); }

TensorView output_view(const Model& model) {
  const ModelSpec& spec = model.spec;
  return model.need(spec.tied_output ? "token_embd.weight" : "output.weight", {spec.vocabulary, spec.width});
}

}  // namespace torch_room

Matrix unpack_dense(const TensorView& view) {
  Matrix matrix(view.rows, view.shape().cols);
  torch_room::unpack(view, 0, view.rows, matrix.data.data());
  return matrix;
}

DenseWeights load_block(const Model& model, uint64_t block) {
  DenseWeights weights;
  for (const auto& [name, shape] : torch_room::block_tensors(model.spec, block))
    weights.emplace(name, torch_room::unpack(model, name, shape));
  return weights;
}

void to_stream(const ModelSpec& spec, Matrix& rows) {
  if (spec.stream_rotation) spec.stream_rotation->invert(rows.data.data(), rows.rows, 1, rows.cols);
}

Matrix from_stream(const ModelSpec& spec, MatrixView rows) {
  Matrix out(rows.rows, rows.cols);
  for (size_t t = 0; t < rows.rows; ++t) std::copy_n(rows.data + t * rows.stride, rows.cols, out.row(t));
  if (spec.stream_rotation) spec.stream_rotation->apply(out.data.data(), out.rows, 1, out.cols);
  return out;
}

Matrix embed(const Model& model, std::span<const int32_t> ids) {
  const ModelSpec& spec = model.spec;
  const TensorView view = model.need("token_embd.weight", {spec.vocabulary, spec.width});
  Matrix rows(ids.size(), spec.width);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || static_cast<uint64_t>(ids[i]) >= spec.vocabulary)
      throw Error(ErrorKind::input, "a token id is outside the vocabulary", "position " + std::to_string(i),
                  std::to_string(ids[i]) + ", the vocabulary has " + std::to_string(spec.vocabulary));
    unpack_rows(view, static_cast<uint64_t>(ids[i]), 1, std::span(rows.row(i), spec.width));
  }
  to_stream(spec, rows);
  return rows;
}

Matrix final_norm(const Model& model, MatrixView hidden) {
  const ModelSpec& spec = model.spec;
  WHIT_CHECK(hidden.cols == spec.width);
  const Matrix gain = torch_room::unpack(model, "output_norm.weight", {1, spec.width});
  Matrix turned;
  if (spec.stream_rotation) {
    turned = from_stream(spec, hidden);
    hidden = turned;
  }
  Matrix out(hidden.rows, hidden.cols);
  torch_room::run_parallel(hidden.rows, 16, [&](size_t begin, size_t end, int) {
    for (size_t t = begin; t < end; ++t)
      torch_room::rms_norm(hidden.data + t * hidden.stride, gain.data.data(), spec.width, spec.norm_epsilon,
                           out.row(t));
  });
  return out;
}

std::vector<Matrix> torch_hidden_states(const Model& model, std::span<const int32_t> ids) {
  std::vector<Matrix> states;
  Activations activations{1, ids.size(), embed(model, ids)};
  for (uint64_t block = 0; block < model.spec.layers; ++block) {
    states.push_back(activations.values);
    run_block(model.spec, block, load_block(model, block), activations, {});
  }
  states.push_back(final_norm(model, activations.values));
  return states;
}

}  // namespace whit
