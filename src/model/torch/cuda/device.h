// Inside model/torch, preset cuda: the device itself. No torch header here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace whit::torch_room {

bool cuda_is_there();
std::string cuda_name();
void cuda_synchronize();
uint64_t cuda_peak_bytes();
// body(0) .. body(count - 1) in threads that each have a stream of their own. The first exception is thrown on.
void cuda_side_by_side(size_t count, size_t threads, const std::function<void(size_t)>& body);

}  // namespace whit::torch_room
