// Rotation of a unit's inputs and outputs before it is rounded: the incoherence processing of QuIP# (2402.04396,
// section 3), W' = L W R^T with randomized Hadamard matrices. A rotated matrix has no outliers left, neither single
// weights nor columns, so that one scale a row and one a column serve all of it: what a grid with groups pays for its
// groups is saved, and fewer levels suffice. The function stays: y = L^T (W' (R x)).
//
// R and L: format/rotation.h, for any width m 2^k with a small odd m (the paper takes m from tables of Hadamard
// matrices; ours is a random orthogonal one, so that every m will do). L turns each member of a stack by itself.
// Everything downstream sees the rotated unit alone: weights W', gram R G R^T, whose loss trace(D' G' D'^T) equals that
// of the same error seen from outside (L has no part in it). Masks and scores do not survive a rotation: prune after
// it. Both sides are applied online by the executors; docs/design/rotation.md says what could be merged into
// neighbours.
//
// Needs: nothing. Time O((k + m) rows cols) a side and O((k + m) cols^2) for the gram; memory: one more gram.
#include <algorithm>

#include "methods/math/unit_state.h"
#include "methods/registry.h"

namespace whit {
namespace {

struct RotateOptions {
  bool inputs = true;
  bool outputs = true;
  int64_t seed = 0;
  template <class V>
  void visit(V& v) {
    v("inputs", inputs, "rotate what the unit reads");
    v("outputs", outputs, "rotate what it gives, each member of a stack by itself (not of embedding and output)");
    v("seed", seed, "draws the signs and the small factor", Range{0, 9e15});
  }
};

class Rotate final : public Transform {
 public:
  explicit Rotate(const RotateOptions& options) : options_(options) {
    if (!options.inputs && !options.outputs)
      throw Error(ErrorKind::usage, "a rotation of neither inputs nor outputs does nothing", "rotate", {},
                  "inputs = true");
  }
  Json options() const override { return write_options(options_); }

  UnitRotation rotation(const UnitSpec& unit) const override {
    if (options_.outputs && (unit.kind == "token_embd" || unit.kind == "output"))
      throw Error(ErrorKind::usage, "the outputs of this tensor are its rows' own and cannot be rotated", unit.name,
                  "outputs = true", "a step of its own for it, with outputs = false");
    // Two sides of one width get different signs; one small factor serves all widths that need it.
    const auto seed = static_cast<uint64_t>(options_.seed);
    UnitRotation rotation;
    if (options_.inputs) rotation.inputs = make_rotation(unit.cols, 2 * seed, seed, unit.name + ": inputs");
    uint64_t begin = 0;
    const auto add = [&](const std::string& name, uint64_t rows) {
      rotation.outputs.push_back({begin, make_rotation(rows, 2 * seed + 1, seed, name + ": outputs")});
      begin += rows;
    };
    if (options_.outputs && unit.members.empty()) add(unit.name, unit.rows);
    for (size_t m = 0; options_.outputs && m < unit.members.size(); ++m) add(unit.members[m], unit.member_rows[m]);
    return rotation;
  }

  void transform(TensorState& state, const MethodContext& context) const override {
    check_unit(state);
    const auto refuse = [&](const char* what) {
      throw Error(ErrorKind::usage, what, state.unit.name, "rotate", "rotate first, then prune and quantize");
    };
    if (!state.mask.empty()) refuse("a pruned unit cannot be rotated: its zeros would not stay");
    if (!state.scores.data.empty()) refuse("scores of weights do not survive a rotation");
    if (state.rotation) refuse("the unit is rotated already");
    const UnitRotation rotation = this->rotation(state.unit);
    Matrix& weights = state.weights;
    context.pool.parallel_for(weights.rows, 1, [&](size_t begin, size_t end, int) {
      rotation.rotate_inputs(weights.row(begin), end - begin, weights.cols);
    });
    context.pool.parallel_for(weights.cols, 1, [&](size_t begin, size_t end, int) {
      rotation.rotate_outputs(weights.data.data(), weights.cols, begin, end);
    });
    if (rotation.inputs && state.statistics && state.statistics->tokens > 0)
      state.statistics = rotated(*state.statistics, *rotation.inputs, context.pool);
    state.rotation = rotation;
    state.source_grid.reset();
    state.source_group = 0;
  }

  uint64_t scratch_bytes(Shape shape) const override {
    return options_.inputs ? shape.cols * shape.cols * sizeof(float) : 0;
  }

 private:
  // R G R^T, made symmetric again to the last bit.
  static std::shared_ptr<const UnitStatistics> rotated(const UnitStatistics& from, const Rotation& rotation,
                                                       ThreadPool& pool) {
    auto statistics = std::make_shared<UnitStatistics>(from);
    Matrix& gram = statistics->gram;
    const size_t n = gram.rows;
    pool.parallel_for(n, 1, [&](size_t begin, size_t end, int) { rotation.apply(gram.row(begin), end - begin, 1, n); });
    pool.parallel_for(
        n, 1, [&](size_t begin, size_t end, int) { rotation.apply(gram.data.data() + begin, end - begin, n, 1); });
    for (size_t i = 0; i < n; ++i) {
      gram.row(i)[i] = std::max(gram.row(i)[i], 0.0f);
      for (size_t j = 0; j < i; ++j) gram.row(i)[j] = gram.row(j)[i] = 0.5f * (gram.row(i)[j] + gram.row(j)[i]);
    }
    return statistics;
  }

  RotateOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(transform, rotate, Rotate, RotateOptions)

}  // namespace whit
