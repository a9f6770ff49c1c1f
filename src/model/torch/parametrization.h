// How a stored format is learned: its codes and scales as tensors with gradients. `tune` and `reconstruct` know nothing
// else of a format. The interface lives here, the implementations in methods.
//
// Laws: materialize() right after it was made from `packed` equals unpack(packed) exactly, and encode() then gives the
// same bytes. encode() always gives a legal Packed of the same format and shape, whose unpack() is what materialize()
// shows up to the rounding of its scales.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "format/format.h"
#include "model/torch/tensor.h"

namespace whit {

// Parameters that share a learning rate.
struct ParameterGroup {
  // "codes" (weights before rounding, in units of a step), "factors" (latents of signs, of mean magnitude 1) or "scales"
  // (everything that multiplies, as exponents)
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
};

// `weights`: what was to be stored; gives codes a start inside their step (empty: the middle, which is `packed`
// itself).
using ParametrizationMaker = std::function<std::unique_ptr<Parametrization>(const Packed& packed, MatrixView weights)>;

// A row of the table that methods passes in: by the name of the format ("grid").
struct ParametrizationRow {
  std::string format;
  ParametrizationMaker make;
};

// By packed.format->name(); ErrorKind::usage, naming the formats that can be learned, when there is no row.
std::unique_ptr<Parametrization> make_parametrization(const std::vector<ParametrizationRow>& rows, const Packed& packed,
                                                      MatrixView weights = {});

}  // namespace whit
