// Binarization as BiLLM (2402.04291) and STBLLM (2408.01803) define it, and their two searches: which columns get a
// second sign, and where the other weights are split into regions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/threads.h"
#include "model/torch/matrix.h"

namespace whit {

// x ~ mean + sum over the orders of scale[o] sign[o]: repeated `order` times on what is left (r = x at first),
//   mu = mean of r,  a = mean of |r - mu|,  r -= mu + a sign(r - mu),  and the means add up to one.
// Without means mu = 0. sign(0) = +1. No values: all zero.
struct Binarized {
  double mean = 0;
  double scale[2] = {0, 0};
  double error = 0;  // sum of squares of what is left
};
Binarized binarize(std::span<const float> x, int order, bool means);

// A matrix [rows, cols] with 1 for the entries that count, or null for all.
struct KeptMatrix {
  MatrixView values;
  const uint8_t* keep = nullptr;
  size_t keep_stride = 0;
  bool kept(size_t i, size_t j) const noexcept { return !keep || keep[i * keep_stride + j] != 0; }
};

// How many of the columns, most salient first (`order`), are best binarized apart from the others, 1 .. most; both
// sides with order 2, row by row. Sums of squares in double over all rows; the smaller count wins a tie. 0 where most
// is 0 or there is one column only. Cost: most * rows * cols times four sweeps; a row of 128 and 49 counts takes about
// ten microseconds.
size_t search_salient_count(const KeptMatrix& matrix, std::span<const size_t> order, size_t most, bool means,
                            ThreadPool& pool);

// Where |value| splits a block into regions: below [0], from [0] to [1], from [1]. Two regions have [1] at infinity.
struct Split {
  float at[2];
  int region(float value) const noexcept;
};

// The split of least squared error when each region of each row is binarized with order 1: 81 quantiles of the
// magnitudes from 10 % to 90 % for two regions; 160 of them and [1] = 2 [0] for three, where [1] may not pass the 90 %
// quantile. Columns that are 1 in `salient` do not take part. Each row is sorted once; then a split costs a few binary
// searches.
Split search_split(const KeptMatrix& matrix, std::span<const uint8_t> salient, int regions, bool means,
                   ThreadPool& pool);

}  // namespace whit
