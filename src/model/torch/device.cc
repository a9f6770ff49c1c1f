#include "model/torch/device.h"

#include "base/error.h"
#include "model/torch/device_ops.h"
#ifdef WHIT_CUDA
#include "model/torch/cuda/device.h"
#endif

namespace whit {
namespace {

bool on_cuda_device = false;

}  // namespace

namespace torch_room {

at::Device learning_at_device() { return on_cuda_device ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU); }
at::ScalarType compute_type() { return on_cuda_device ? at::kBFloat16 : at::kFloat; }

}  // namespace torch_room

void set_learning_device(const std::string& name) {
  if (name == "cpu") {
    on_cuda_device = false;
    return;
  }
  if (name != "cuda") throw Error(ErrorKind::usage, "unknown device", "--device", name, "cpu or cuda");
#ifdef WHIT_CUDA
  if (!torch_room::cuda_is_there())
    throw Error(ErrorKind::usage, "no CUDA device was found", "--device", name, "nvidia-smi lists what is there");
  on_cuda_device = true;
#else
  throw Error(ErrorKind::usage, "this build knows no CUDA", "--device", name, "build preset cuda (docs/cuda.md)");
#endif
}

std::string learning_device() { return on_cuda_device ? "cuda" : "cpu"; }

std::string learning_device_name() {
#ifdef WHIT_CUDA
  if (on_cuda_device) return torch_room::cuda_name();
#endif
  return "cpu";
}

void synchronize_device() {
#ifdef WHIT_CUDA
  if (on_cuda_device) torch_room::cuda_synchronize();
#endif
}

void side_by_side(size_t count, const std::function<void(size_t)>& body) {
#ifdef WHIT_CUDA
  constexpr size_t kThreads = 12;
  if (on_cuda_device) return torch_room::cuda_side_by_side(count, kThreads, body);
#endif
  for (size_t i = 0; i < count; ++i) body(i);
}

uint64_t device_peak_bytes() {
#ifdef WHIT_CUDA
  if (on_cuda_device) return torch_room::cuda_peak_bytes();
#endif
  return 0;
}

}  // namespace whit
