#include <fmt/format.h>

#include "format/container.h"
#include "format/ggml_types.h"

namespace whit {
namespace {

FormatPtr format_of_type(const GgufTensor& tensor) {
  switch (static_cast<GgmlType>(tensor.type)) {
    case GgmlType::f32: return make_format("f32");
    case GgmlType::f16: return make_format("f16");
    case GgmlType::bf16: return make_format("bf16");
    case GgmlType::q8_0: return make_format("q8_0");
    case GgmlType::q4_0: return make_format("q4_0");
    case GgmlType::q4_1: return make_format("q4_1");
    default: break;
  }
  const GgmlTypeRow* row = ggml_type_row(tensor.type);
  throw Error(ErrorKind::input, "a tensor has a type that is not read here", tensor.name,
              fmt::format("type {} ({})", tensor.type, row ? row->name : "unknown"),
              "use a file with F32, F16, BF16, Q8_0, Q4_0 or Q4_1 tensors");
}

Shape matrix_shape(const GgufTensor& tensor) {
  if (tensor.dimensions.empty() || tensor.dimensions.size() > 2)
    throw Error(ErrorKind::input, "a tensor is no vector or matrix", tensor.name,
                fmt::format("{} dimensions", tensor.dimensions.size()));
  const Shape shape{tensor.dimensions.size() == 2 ? tensor.dimensions[1] : 1, tensor.dimensions[0]};
  if (shape.rows == 0 || shape.cols == 0) throw Error(ErrorKind::input, "a tensor is empty", tensor.name);
  return shape;
}

StoredTensor ordinary_tensor(const GgufFile& gguf, const GgufTensor& from) {
  StoredTensor tensor;
  tensor.name = from.name;
  tensor.format = format_of_type(from);
  tensor.shape = matrix_shape(from);
  tensor.dimensions = static_cast<int>(from.dimensions.size());
  tensor.parts = {from.data};
  tensor.owner = gguf.file;
  WHIT_CHECK(from.data.size() == tensor.format->bytes(tensor.shape));
  return tensor;
}

}  // namespace

std::vector<StoredTensor> stored_tensors(const GgufFile& gguf) {
  std::vector<StoredTensor> tensors;
  for (const GgufTensor& tensor : gguf.tensors) tensors.push_back(ordinary_tensor(gguf, tensor));
  return tensors;
}

}  // namespace whit
