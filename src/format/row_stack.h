// Matrices in ggml formats of their own, one under the other: a unit whose members have different types. It is copied,
// and written member by member; no recipe can ask for it.
#pragma once

#include <memory>
#include <vector>

#include "format/format.h"

namespace whit {

class RowStack final : public Format {
 public:
  struct Part {
    FormatPtr format;  // of ggml
    uint64_t rows;
  };
  explicit RowStack(std::vector<Part> members) : members_(std::move(members)) {}
  const std::vector<Part>& members() const noexcept { return members_; }

  std::string name() const override { return "row_stack"; }
  std::string label() const override;  // "q4_k+q4_k+q6_k"
  Json options() const override { return Json::object(); }
  bool is_ggml() const override { return true; }
  void check_shape(Shape shape, std::string_view tensor) const override;
  std::vector<PartSpec> parts(Shape shape) const override;
  void unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
              float* out) const noexcept override;

 private:
  std::vector<Part> members_;
};

inline std::shared_ptr<const RowStack> as_row_stack(const FormatPtr& format) {
  return std::dynamic_pointer_cast<const RowStack>(format);
}

}  // namespace whit
