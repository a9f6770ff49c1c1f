#include "model/torch/weights.h"

#include "base/error.h"
#include "format/format.h"
#include "model/torch/executor.h"
#include "model/torch/gemm.h"
#include "model/torch/kernels.h"

namespace whit {
namespace torch_room {

void unpack(const TensorView& view, uint64_t begin, uint64_t count, float* out) {
  const StoredTensor& tensor = *view.tensor;
  const uint64_t cols = view.shape().cols;
  WHIT_CHECK(!tensor.inner);
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

}  // namespace torch_room

namespace {

// rows W^T, W a matrix beside the blocks.
Matrix projected(const Model& model, const char* name, Shape shape, const Matrix& rows) {
  const Matrix weights = torch_room::unpack(model, name, shape);
  Matrix out(rows.rows, shape.rows);
  multiply_add(1.0f, rows, weights, true, out.data.data(), shape.rows);
  return out;
}

}  // namespace

Matrix unpack_dense(const TensorView& view) {
  Matrix matrix(view.rows, view.shape().cols);
  torch_room::unpack(view, 0, view.rows, matrix.data.data());
  return matrix;
}

DenseWeights load_block(const Model& model, uint64_t block) {
  DenseWeights weights;
  for (const auto& [name, shape] : block_tensors(model.spec, block))
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

Matrix embed(const Model& model, std::span<const int32_t> ids, size_t length, size_t offset,
             const TensorView& embedding) {
  const ModelSpec& spec = model.spec;
  const TensorView view = embedding ? embedding : model.need("token_embd.weight", {spec.vocabulary, spec.embedded()});
  const TensorView positions = spec.positions == PositionKind::learned ? model.find("position_embd.weight") : TensorView();
  Matrix rows(ids.size(), spec.embedded());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || static_cast<uint64_t>(ids[i]) >= spec.vocabulary)
      throw Error(ErrorKind::input, "a token id is outside the vocabulary", "position " + std::to_string(i),
                  std::to_string(ids[i]) + ", the vocabulary has " + std::to_string(spec.vocabulary));
    const std::span<float> row(rows.row(i), spec.embedded());
    unpack_rows(view, static_cast<uint64_t>(ids[i]), 1, row);
    if (spec.embedding_scale != 1)
      for (float& value : row) value *= static_cast<float>(spec.embedding_scale);
    check_activations(row, -1, "token_embd");
  }
  if (spec.projects()) rows = projected(model, "project_in.weight", {spec.width, spec.embedding_width}, rows);
  std::vector<float> position(spec.width);
  for (size_t i = 0; positions && i < ids.size(); ++i) {
    unpack_rows(positions, learned_row(spec, offset + (length == 0 ? i : i % length)), 1, position);
    for (size_t j = 0; j < spec.width; ++j) rows.row(i)[j] += position[j];
  }
  check_activations(rows.data, -1, "token_embd");
  to_stream(spec, rows);
  return rows;
}

Matrix final_norm(const Model& model, MatrixView hidden) {
  const ModelSpec& spec = model.spec;
  WHIT_CHECK(hidden.cols == spec.width);
  Matrix turned = from_stream(spec, hidden);
  const auto to_output = [&] {
    check_activations(turned.data, -1, "output_norm");
    return spec.projects() ? projected(model, "project_out.weight", {spec.embedding_width, spec.width}, turned)
                           : std::move(turned);
  };
  if (!spec.final_norm) return to_output();
  const std::vector<float> gain = model.vector("output_norm.weight", spec.width);
  const std::vector<float> bias =
      spec.norm == NormKind::layer ? model.vector("output_norm.bias", spec.width) : std::vector<float>();
  torch_room::run_parallel(turned.rows, 16, [&](size_t begin, size_t end, int) {
    for (size_t t = begin; t < end; ++t)
      torch_room::norm(spec.norm, turned.row(t), gain.data(), bias.data(), spec.width, spec.norm_epsilon, turned.row(t));
  });
  return to_output();
}

std::vector<Matrix> torch_hidden_states(const Model& model, std::span<const int32_t> ids) {
  std::vector<Matrix> states;
  Activations activations{1, ids.size(), embed(model, ids, ids.size())};
  for (uint64_t block = 0; block < model.spec.layers; ++block) {
    states.push_back(activations.values);
    run_block(model.spec, block, load_block(model, block), activations, {});
  }
  states.push_back(final_norm(model, activations.values));
  return states;
}

}  // namespace whit
