#include "calibrate/statistics.h"

namespace whit {

void Grams::add(const std::string& kind, MatrixView rows) {
  UnitStatistics& unit = units_[kind];
  if (unit.tokens == 0) unit.gram = Matrix(rows.cols, rows.cols);
  add_gram(rows, unit.gram);
  unit.tokens += rows.rows;
}

void Grams::add(const std::string& kind, const Tensor& rows) {
  const NoGrad guard;
  const Tensor gram = matmul(transpose(rows), rows);
  Tensor& sum = on_device_[kind];
  sum = sum ? sum + gram : gram;
  units_[kind].tokens += static_cast<uint64_t>(rows.size(0));
}

InputHook Grams::hook() {
  InputHook hook = [this](const std::string& kind, MatrixView rows) { add(kind, rows); };
  hook.on_device = [this](const std::string& kind, const Tensor& rows) { add(kind, rows); };
  return hook;
}

UnitStatistics Grams::mean(const std::string& kind) {
  UnitStatistics unit = std::move(units_.at(kind));
  if (const auto sum = on_device_.find(kind); sum != on_device_.end()) {
    unit.gram = sum->second.matrix();
    on_device_.erase(sum);
  }
  for (float& value : unit.gram.data) value /= static_cast<float>(unit.tokens);
  units_.erase(kind);
  return unit;
}

}  // namespace whit
