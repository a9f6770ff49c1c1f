// What may stand in one table and one curve: models judged on the same windows of the same text, beside the same
// original.
#pragma once

#include <string>
#include <vector>

#include "report/records.h"

namespace whit {

struct Comparison {
  std::string original;  // as it was given; empty: none
  std::string heading;   // "judged on NAME (40 windows of 512 tokens), beside ORIGINAL"
  std::vector<EvalRow> rows;
  std::vector<ReferencePoint> references;
};

// In the order in which they come up. A reference belongs to a comparison whose text and original it names; others
// stand in comparisons of their own, behind. Rows of files that do not say their text are kept apart from all others.
std::vector<Comparison> comparisons(const Results& results);

// Whether `row` is the original that it was compared with.
bool is_original(const EvalRow& row);

}  // namespace whit
