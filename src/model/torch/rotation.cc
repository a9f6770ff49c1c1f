#include "model/torch/rotation.h"

#include <algorithm>

#include "model/torch/device_ops.h"
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

// On the CPU by the factors: R = (Q (x) H) diag(s), H symmetric and orthogonal, so that products cost run + m operations an
// element, where the dense R costs run * m. On CUDA with the dense R in the type that blocks compute in: tensor cores make
// up for the operations, and each factor more would be another sweep over all weights (measured on an H100: 60,000 tokens/s
// with factors in 32 bits, 80,000 with a dense R in 32 bits).
struct Unrotator::Known {
  RotationPtr rotation;
  Tensor dense;            // [n, n]; undefined on the CPU
  int64_t runs = 1, run = 1;
  Tensor hadamard;         // [run, run]
  Tensor mix, mix_across;  // Q and Q^T [m, m]; undefined where m is 1
  Tensor signs;            // [n]

  explicit Known(const RotationPtr& of)
      : rotation(of), runs(static_cast<int64_t>(of->runs())), run(static_cast<int64_t>(of->run())) {
    if (const at::ScalarType type = torch_room::compute_type(); type != at::kFloat) {
      dense = wrap(unwrap(rotation_matrix(*of)).to(type));
      return;
    }
    // H is a rotation of one run whose signs are taken back.
    const Rotation one(of->run(), 0, {});
    Matrix matrix = rotation_matrix(one).matrix();
    for (size_t i = 0; i < matrix.rows; ++i)
      for (size_t j = 0; j < matrix.cols; ++j) matrix.row(i)[j] *= one.signs()[j];
    hadamard = Tensor::from(matrix);
    if (runs > 1) {
      const auto m = static_cast<size_t>(runs);
      mix = Tensor::from(MatrixView(of->factor().data(), m, m, m));
      Matrix across(m, m);
      for (size_t i = 0; i < m; ++i)
        for (size_t j = 0; j < m; ++j) across.row(i)[j] = of->factor()[j * m + i];
      mix_across = Tensor::from(across);
    }
    signs = Tensor::from(of->signs(), {static_cast<int64_t>(of->size())});
  }

  // x R, x [rows, n]
  Tensor after(const Tensor& x) const {
    if (dense) return matmul(x, dense);
    const int64_t rows = x.size(0), n = runs * run;
    Tensor y = matmul(reshape(x, {rows * runs, run}), hadamard);
    if (mix) {
      y = reshape(transpose(reshape(y, {rows, runs, run})), {rows * run, runs});
      y = transpose(reshape(matmul(y, mix), {rows, run, runs}));
    }
    return reshape(y, {rows, n}) * signs;
  }

  // R^T x, x [n, cols]
  Tensor undone(const Tensor& x) const {
    if (dense) return matmul(transpose(dense), x);
    const int64_t cols = x.size(1), n = runs * run;
    std::vector<Tensor> parts;
    for (int64_t r = 0; r < runs; ++r) parts.push_back(matmul(hadamard, narrow(x, 0, r * run, run)));
    Tensor y = parts.size() == 1 ? parts[0] : concat(parts, 0);
    if (mix) y = reshape(matmul(mix_across, reshape(y, {runs, run * cols})), {n, cols});
    return y * reshape(signs, {n, 1});
  }
};

Unrotator::Unrotator() = default;
Unrotator::~Unrotator() = default;

const Unrotator::Known& Unrotator::known(const RotationPtr& rotation) {
  for (const auto& known : known_)
    if (known->rotation == rotation || *known->rotation == *rotation) return *known;
  known_.push_back(std::make_unique<const Known>(rotation));
  return *known_.back();
}

Tensor Unrotator::operator()(const Tensor& given, const UnitRotation& rotation) {
  if (!rotation) return given;
  const Tensor stored = wrap(unwrap(given).to(torch_room::compute_type()));
  const Tensor weights = rotation.inputs ? known(rotation.inputs).after(stored) : stored;
  if (rotation.outputs.empty()) return weights;
  std::vector<Tensor> parts;
  uint64_t done = 0;
  const auto rows = [&](uint64_t begin, uint64_t end) {
    return narrow(weights, 0, static_cast<int64_t>(begin), static_cast<int64_t>(end - begin));
  };
  for (const OutputRotation& output : rotation.outputs) {
    if (output.begin > done) parts.push_back(rows(done, output.begin));
    parts.push_back(known(output.rotation).undone(rows(output.begin, output.end())));
    done = output.end();
  }
  if (const auto all = static_cast<uint64_t>(stored.size(0)); done < all) parts.push_back(rows(done, all));
  return parts.size() == 1 ? parts[0] : concat(parts, 0);
}

Tensor unrotate(const Tensor& stored, const UnitRotation& rotation) { return Unrotator()(stored, rotation); }

}  // namespace whit
