// One basis for the residual stream of the whole model, and one for the values of every head, merged into the weights on
// both sides (QuaRot, 2404.00456, section 4, stages 1a and 1b without the online parts). What the step `rotate` undoes at
// every product costs nothing here: q, k, v, gate and up read the turned stream, o and down write it, v and o agree on the
// turned values. Inputs of down and outputs of q, k, gate and up have non-linear neighbours: `rotate` can turn those.
//
// The algebra, and what stays as it is with a tied embedding: model/spec/basis.h, docs/design/rotation.md.
#include "methods/registry.h"
#include "model/spec/basis.h"

namespace whit {
namespace {

struct MergeOptions {
  bool stream = true;
  bool values = true;
  int64_t seed = 0;
  template <class V>
  void visit(V& v) {
    v("stream", stream, "turn the residual stream; gains of norms go into the linears that read them");
    v("values", values, "turn the values of heads, between v and o");
    v("seed", seed, "draws the signs and the small factor", Range{0, 9e15});
  }
};

class MergeRotations final : public Basis {
 public:
  explicit MergeRotations(const MergeOptions& options) : options_(options) {
    if (!options.stream && !options.values)
      throw Error(ErrorKind::usage, "neither stream nor values: this step does nothing", "merge_rotations", {},
                  "stream = true");
  }
  Json options() const override { return write_options(options_); }

  ModelPtr change(const ModelPtr& model) const override {
    const auto seed = static_cast<uint64_t>(options_.seed);
    const std::string where = model->path.string();
    ModelPtr changed = model;
    if (options_.values)
      changed = turn_values(changed, make_rotation(model->spec.head_size, 2 * seed + 1, seed, where + ": heads"));
    if (options_.stream)
      changed = turn_stream(changed, make_rotation(model->spec.width, 2 * seed, seed, where + ": stream"));
    return changed;
  }

 private:
  MergeOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(basis, merge_rotations, MergeRotations, MergeOptions)

}  // namespace whit
