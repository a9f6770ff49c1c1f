#include "model/spec/model.h"

#include <fmt/format.h>

#include "base/error.h"

namespace whit {

TensorView Model::find(std::string_view name) const noexcept {
  for (const StoredTensor& tensor : tensors) {
    if (tensor.name == name) return {&tensor, 0, tensor.shape.rows};
    for (const Member& member : tensor.members)
      if (member.name == name) return {&tensor, member.begin, member.count};
  }
  return {};
}

TensorView Model::need(std::string_view name, Shape shape) const {
  const TensorView view = find(name);
  const std::string where = fmt::format("{}: tensor {}", path.string(), name);
  if (!view) throw Error(ErrorKind::input, "the model lacks a tensor", where);
  if (view.shape() != shape)
    throw Error(ErrorKind::input, "a tensor has another shape than the model's description says", where,
                fmt::format("{} x {}, wanted {} x {}", view.rows, view.shape().cols, shape.rows, shape.cols));
  return view;
}

std::vector<float> Model::vector(std::string_view name, uint64_t count) const {
  const TensorView view = need(name, {1, count});
  std::vector<float> values(count);
  unpack_rows(view, 0, 1, values);
  return values;
}

}  // namespace whit
