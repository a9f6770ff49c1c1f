// What an affine format leaves free, found out by rounding probes, so that no method knows a format by name.
#pragma once

#include "format/format.h"

namespace whit {

struct AffineFreedom {
  enum class Kind {
    minimum,     // scale and minimum are independent
    zero_point,  // minimum = -z scale, z an integer code
    symmetric    // minimum = -centre scale
  };
  Kind kind = Kind::minimum;
  bool negative_scale = false;
  float scale_step =
      0;  // distance of neighbouring scales / largest scale of the row; 0: half floats, too fine to matter
};

AffineFreedom affine_freedom(const AffineFormat& format);

}  // namespace whit
