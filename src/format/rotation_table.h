// The rotations of a file of ours, each once: a table in the key whit.rotations and the small factors in one F32 tensor
// (docs/design/container.md). Used by the container's reader and writer only.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/options.h"
#include "format/gguf.h"
#include "format/tensor.h"

namespace whit {

// What the writer fills: rotations and factors in the order in which units first ask for them.
class RotationTable {
 public:
  void add(const UnitRotation& rotation);
  void set_stream(const RotationPtr& rotation);  // of the residual stream; null: none
  bool empty() const noexcept { return rotations_.empty(); }
  Json unit_json(const UnitRotation& rotation) const;  // the field "rotation" of a unit; all was added before
  std::string text() const;                            // of whit.rotations
  std::vector<float> factors() const;                  // of the tensor; empty: no tensor

 private:
  void add(const RotationPtr& rotation);
  size_t index_of(const Rotation& rotation) const;
  RotationPtr stream_;
  std::vector<RotationPtr> rotations_;
  std::vector<const std::vector<float>*> factors_;
};

// What the reader asks. Everything is checked: sizes, the factors' orthogonality (in time proportional to the tensor).
class RotationReader {
 public:
  explicit RotationReader(const GgufFile& gguf);
  UnitRotation unit(const nlohmann::json& unit, const StoredTensor& tensor);
  RotationPtr stream();  // null: none

 private:
  const RotationPtr& rotation(const nlohmann::json& index, const std::string& name);

  struct Entry {
    uint64_t size = 0, seed = 0;
    size_t factor = 0;  // into factors_
    RotationPtr made;   // by the first unit that uses it
  };
  nlohmann::json stream_;  // index or null
  std::vector<Entry> entries_;
  std::vector<std::vector<float>> factors_;
};

}  // namespace whit
