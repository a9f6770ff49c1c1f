// How a stored format is learned: its codes and scales as tensors with gradients. `tune` and `reconstruct` know nothing
// else of a format. The interface lives here, the implementations in methods.
//
// Laws: materialize() right after it was made from `packed`, with whatever start, equals unpack(packed) exactly, and
// encode() then gives the same bytes. encode() always gives a legal Packed of the same format and shape, whose unpack() is what materialize()
// shows up to the rounding of its scales.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/format.h"
#include "model/torch/tensor.h"

namespace whit {

// Parameters that share a learning rate.
struct ParameterGroup {
  // "codes": weights before rounding, in units of a step. "weights": as they are. "factors": latents behind signs, of
  // mean magnitude 1. "scales": everything that multiplies, and exponents of it.
  std::string kind;
  std::vector<Tensor> tensors;  // leaves with requires_grad; an optimizer changes them in place by assign()
  std::string unit = {};        // whose they are; set by whoever holds several
  bool embedding = false;       // of the embedding or the output matrix
};

class Parametrization {
 public:
  virtual ~Parametrization() = default;
  // The weights [rows, cols] that encode() would store, differentiable (straight-through where they are rounded).
  virtual Tensor materialize() const = 0;
  virtual Packed encode() const = 0;
  virtual std::vector<ParameterGroup> parameters() const = 0;
  // What encode() rounds away, for a ParametrizationStart from which learning goes on; empty: nothing.
  virtual std::vector<Matrix> latents() const { return {}; }
};

// What is known beside the stored bytes, so that learning starts where storing them was nearly decided the other way.
struct ParametrizationStart {
  MatrixView weights;  // what was to be stored; empty: the middle of every step, which is `packed` itself
  // As Parametrization::latents() or, in the same shape, a quantizer (TensorState) left them: they win over weights.
  // Empty: none.
  std::span<const Matrix> latents;
};

using ParametrizationMaker =
    std::function<std::unique_ptr<Parametrization>(const Packed& packed, const ParametrizationStart& start)>;

// A row of the table that methods passes in: by the name of the format ("grid").
struct ParametrizationRow {
  std::string format;
  ParametrizationMaker make;
};

// By packed.format->name(); ErrorKind::usage, naming the formats that can be learned, when there is no row.
std::unique_ptr<Parametrization> make_parametrization(const std::vector<ParametrizationRow>& rows, const Packed& packed,
                                                      const ParametrizationStart& start = {});

}  // namespace whit
