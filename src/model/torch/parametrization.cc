#include "model/torch/parametrization.h"

#include "base/error.h"
#include "base/names.h"

namespace whit {

std::unique_ptr<Parametrization> make_parametrization(const std::vector<ParametrizationRow>& rows, const Packed& packed,
                                                      const ParametrizationStart& start) {
  WHIT_CHECK(packed.format != nullptr);
  const MatrixView& weights = start.weights;
  WHIT_CHECK(weights.data == nullptr || (weights.rows == packed.shape.rows && weights.cols == packed.shape.cols));
  const std::string name = packed.format->name();
  std::vector<std::string> known;
  for (const ParametrizationRow& row : rows) {
    if (row.format == name) return row.make(packed, start);
    known.push_back(row.format);
  }
  throw Error(ErrorKind::usage, "this format cannot be learned", "format", name, suggest_name(name, known));
}

}  // namespace whit
