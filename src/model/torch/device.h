// Where learning happens. No torch header here.
#pragma once

#include <cstdint>
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
// Bytes that tensors held at most on the device so far; 0 on the CPU, where the process's memory says it.
uint64_t device_peak_bytes();

}  // namespace whit
