// Where learning happens. No torch header here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace whit {

// "cpu" (the start) or "cuda": where Tensor::from() puts values from now on. ErrorKind::usage when this build or this
// machine has no such device. Set once, before the first Tensor.
void set_learning_device(const std::string& name);
std::string learning_device();
// "NVIDIA H100 80GB HBM3", or "cpu".
std::string learning_device_name();
// Waits until the device has done what it was told.
void synchronize_device();
// body(0) .. body(count - 1), none of which waits for another: on a device side by side, since one alone is thousands of
// operations too small to fill it; on the CPU one after the other. The first exception is thrown on.
void side_by_side(size_t count, const std::function<void(size_t)>& body);
// Bytes that tensors held at most on the device so far; 0 on the CPU, where the process's memory says it.
uint64_t device_peak_bytes();

}  // namespace whit
