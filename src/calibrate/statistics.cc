#include "calibrate/statistics.h"

namespace whit {

void Grams::add(const std::string& kind, MatrixView rows) {
  UnitStatistics& unit = units_[kind];
  if (unit.tokens == 0) unit.gram = Matrix(rows.cols, rows.cols);
  add_gram(rows, unit.gram);
  unit.tokens += rows.rows;
}

InputHook Grams::hook() {
  return [this](const std::string& kind, MatrixView rows) { add(kind, rows); };
}

UnitStatistics Grams::mean(const std::string& kind) {
  UnitStatistics unit = std::move(units_.at(kind));
  for (float& value : unit.gram.data) value /= static_cast<float>(unit.tokens);
  units_.erase(kind);
  return unit;
}

}  // namespace whit
