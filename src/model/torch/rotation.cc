#include "model/torch/rotation.h"

#include <algorithm>

#include "model/torch/tensor_impl.h"

namespace whit {

using torch_room::unwrap;
using torch_room::wrap;

Tensor rotation_matrix(const Rotation& rotation) {
  const size_t n = rotation.size();
  Matrix matrix(n, n);
  for (size_t i = 0; i < n; ++i) matrix.row(i)[i] = 1;
  rotation.apply(matrix.data.data(), n, n, 1);  // column i becomes R e_i
  return Tensor::from(matrix);
}

const Tensor& Unrotator::matrix(const RotationPtr& rotation, const Tensor& like) {
  const at::Tensor& target = unwrap(like);
  for (const Known& known : known_) {
    const at::Tensor& made = unwrap(known.matrix);
    if (made.device() == target.device() && made.scalar_type() == target.scalar_type() &&
        (known.rotation == rotation || *known.rotation == *rotation))
      return known.matrix;
  }
  known_.push_back({rotation, wrap(unwrap(rotation_matrix(*rotation)).to(target.device(), target.scalar_type()))});
  return known_.back().matrix;
}

Tensor Unrotator::operator()(const Tensor& stored, const UnitRotation& rotation) {
  const Tensor weights = rotation.inputs ? matmul(stored, matrix(rotation.inputs, stored)) : stored;
  if (rotation.outputs.empty()) return weights;
  std::vector<Tensor> parts;
  uint64_t done = 0;
  const auto rows = [&](uint64_t begin, uint64_t end) {
    return narrow(weights, 0, static_cast<int64_t>(begin), static_cast<int64_t>(end - begin));
  };
  for (const OutputRotation& output : rotation.outputs) {
    if (output.begin > done) parts.push_back(rows(done, output.begin));
    parts.push_back(matmul(transpose(matrix(output.rotation, stored)), rows(output.begin, output.end())));
    done = output.end();
  }
  if (const auto all = static_cast<uint64_t>(stored.size(0)); done < all) parts.push_back(rows(done, all));
  return parts.size() == 1 ? parts[0] : concat(parts, 0);
}

Tensor unrotate(const Tensor& stored, const UnitRotation& rotation) { return Unrotator()(stored, rotation); }

}  // namespace whit
