// Memory for kernels: aligned to a cache line, zero, and resident only where it was touched (large caches grow lazily).
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "base/checked.h"

namespace whit {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count) : size_(count) {
    if (count == 0) return;
    memory_.reset(std::calloc(checked_add(checked_mul(count, sizeof(T), "buffer"), 64, "buffer"), 1));
    if (!memory_) throw std::bad_alloc();
    data_ = reinterpret_cast<T*>(round_up(reinterpret_cast<uintptr_t>(memory_.get()), 64));
  }
  T* data() const noexcept { return data_; }
  size_t size() const noexcept { return size_; }
  // At least `count` elements; the content is lost when it grows.
  void reserve(size_t count) {
    if (count > size_) *this = Buffer(count);
  }

 private:
  struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace whit
