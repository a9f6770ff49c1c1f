// What is stored, as kernels see it: a table of block types, and the parts of our own formats.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "format/tensor.h"
#include "runtime/cpu/kernels.h"

namespace whit {

// Whether kernels read what is stored; other formats are unpacked row by row by their own plain decoder.
bool has_kernels(const Format& format);

// ErrorKind::input for a format that several matrices stand for. `columns` receives column scales, if any.
cpu::StoredMatrix stored_matrix(const TensorView& view, std::vector<float>& columns);

// +-scale / 2 by one bit each, a half scale for every row, `scale_stride` bytes apart: a symmetric grid of one bit.
cpu::StoredMatrix sign_matrix(std::span<const std::byte> signs, Shape shape, const uint8_t* scales,
                              size_t scale_stride);
// Twice the halves: the factor that sign_matrix() leaves to its columns.
std::vector<float> doubled_halves(std::span<const std::byte> part);

inline const uint8_t* bytes_of(std::span<const std::byte> part) {
  return reinterpret_cast<const uint8_t*>(part.data());
}

}  // namespace whit
