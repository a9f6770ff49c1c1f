// What importance scores are made of. Conventions that all of them share: ||X_j||^2 = E[x_j^2], the mean over
// calibration tokens (published code sums over tokens and divides by the number of sequences: a factor common to all
// inputs of a model, which changes no ranking); a stack of linears is scored member by member, each as the matrix that
// it is.
#pragma once

#include <cstdint>
#include <vector>

#include "methods/stages.h"

namespace whit {

// ||X_j|| per input. ErrorKind::usage naming method and unit where there are no statistics.
std::vector<float> input_norms(const TensorState& state, const char* method);

// |w_ij| / sum_j |w_ij| + |w_ij| / sum_i |w_ij|, sums over the row and over the column of the member; 0 / 0 is 0.
Matrix relative_magnitude(const TensorState& state, ThreadPool& pool);

// body(begin, end) for the rows of every member of the unit.
template <class Body>
void for_each_member(const TensorState& state, const Body& body) {
  if (state.unit.member_rows.empty()) return body(size_t{0}, state.weights.rows);
  size_t begin = 0;
  for (const uint64_t rows : state.unit.member_rows) {
    body(begin, begin + rows);
    begin += rows;
  }
  WHIT_CHECK(begin == state.weights.rows);
}

// state.scores[i, j] = score(i, j).
template <class Score>
void fill_scores(TensorState& state, ThreadPool& pool, const Score& score) {
  state.scores = Matrix(state.weights.rows, state.weights.cols);
  pool.parallel_for(state.scores.rows, 16, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; ++i)
      for (size_t j = 0; j < state.scores.cols; ++j) state.scores.row(i)[j] = score(i, j);
  });
}

}  // namespace whit
