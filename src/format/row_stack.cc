#include "format/row_stack.h"

#include <algorithm>

#include "base/error.h"

namespace whit {

std::string RowStack::label() const {
  std::string label;
  for (const Part& member : members_) label += (label.empty() ? "" : "+") + member.format->label();
  return label;
}

void RowStack::check_shape(Shape shape, std::string_view tensor) const {
  for (const Part& member : members_) member.format->check_shape({member.rows, shape.cols}, tensor);
}

std::vector<PartSpec> RowStack::parts(Shape shape) const {
  uint64_t bytes = 0, rows = 0;
  for (const Part& member : members_) {
    bytes += member.format->bytes({member.rows, shape.cols});
    rows += member.rows;
  }
  WHIT_CHECK(rows == shape.rows);
  return {{"", members_.front().format->parts({1, shape.cols}).front().type, shape.count(), bytes, 0}};
}

void RowStack::unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
                      float* out) const noexcept {
  std::span<const std::byte> rest = parts[0];
  uint64_t first = 0;  // row of the member at hand
  for (const Part& member : members_) {
    const Shape own{member.rows, shape.cols};
    const std::span<const std::byte> bytes = rest.first(member.format->bytes(own));
    const uint64_t from = std::max(begin, first), to = std::min(begin + count, first + member.rows);
    if (from < to) {
      const std::span<const std::byte> views[] = {bytes};
      member.format->unpack(own, views, from - first, to - from, out + (from - begin) * shape.cols);
    }
    rest = rest.subspan(bytes.size());
    first += member.rows;
  }
}

}  // namespace whit
