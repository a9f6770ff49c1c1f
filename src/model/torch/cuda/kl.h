// Inside model/torch, preset cuda: the fused loss of the output layer (kl.cu).
#pragma once

#include <cstdint>

namespace whit::torch_room {

// logits [rows, vocabulary] of student and teacher in float -> gradient in bfloat16 = scale (softmax(student) -
// softmax(teacher)), and KL(teacher || student) of each row. Device pointers; `stream` is a cudaStream_t. Returns a
// cudaError_t.
int launch_kl(const float* student, const float* teacher, float scale, void* gradient, float* kl, int64_t rows,
              int64_t vocabulary, void* stream);

}  // namespace whit::torch_room
