// Builds without CUDA: no tensor is ever on such a device, so nothing of this is called.
#include "base/error.h"
#include "model/torch/device_ops.h"

namespace whit::torch_room {
namespace {

[[noreturn]] void absent() { check_failed("a tensor is on a CUDA device in a build without CUDA", __FILE__, __LINE__); }

}  // namespace

at::Tensor cuda_attention(const ModelSpec&, uint64_t, const at::Tensor&, size_t, size_t) { absent(); }
at::Tensor cuda_decode_attention(const at::Tensor&, const at::Tensor&, const at::Tensor&, double) { absent(); }
at::Tensor cuda_rms_norm(const at::Tensor&, const at::Tensor&, double) { absent(); }
at::Tensor cuda_silu_multiply(const at::Tensor&) { absent(); }
void cuda_relative_error(const at::Tensor&, const at::Tensor&, double, bool, at::Tensor&, at::Tensor&) { absent(); }
at::Tensor cuda_matmul_float(const at::Tensor&, const at::Tensor&) { absent(); }
void cuda_kl(const at::Tensor&, const at::Tensor&, double, at::Tensor&, at::Tensor&) { absent(); }
void cuda_adamw(const std::vector<at::Tensor>&, const std::vector<at::Tensor>&, const std::vector<at::Tensor>&,
                const std::vector<at::Tensor>&, double, double, double, double, int64_t) {
  absent();
}
std::shared_ptr<Graph> record_graph(const std::function<void()>&) { absent(); }
void replay_graph(Graph&) { absent(); }
double cuda_norm(const std::vector<at::Tensor>&) { absent(); }

}  // namespace whit::torch_room
