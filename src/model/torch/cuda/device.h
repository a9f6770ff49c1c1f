// Inside model/torch, preset cuda: the device itself. No torch header here.
#pragma once

#include <cstdint>
#include <string>

namespace whit::torch_room {

bool cuda_is_there();
std::string cuda_name();
void cuda_synchronize();
uint64_t cuda_peak_bytes();

}  // namespace whit::torch_room
