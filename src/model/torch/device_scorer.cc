// The Scorer on the learning device: all weights resident in float, keys and values kept there; whole windows are judged
// there, sessions hand logits to the host row by row.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>

#include <algorithm>

#include "base/error.h"
#include "model/torch/decoder.h"
#include "model/torch/device_ops.h"
#include "model/torch/executor.h"
#include "model/torch/tensor.h"

namespace whit {
namespace {

constexpr size_t kPiece = 512;  // ids that go through the blocks at a time

constexpr int64_t kRows = 128;  // logit rows that are compared at a time, in double: 50 MB each for 49152 ids

at::Tensor device_ids(std::span<const int32_t> ids) {
  const std::vector<int64_t> wide(ids.begin(), ids.end());
  return at::from_blob(const_cast<int64_t*>(wide.data()), {1, static_cast<int64_t>(ids.size())}, at::kLong)
      .to(torch_room::learning_at_device(), false, /*copy=*/true);
}

class DeviceScorer final : public Scorer, public std::enable_shared_from_this<DeviceScorer> {
 public:
  explicit DeviceScorer(const Model& model) : decoder_(model, at::kFloat) {}
  const ModelSpec& spec() const noexcept override { return decoder_.spec(); }
  std::unique_ptr<ScorerSession> open(size_t context) const override;
  bool score_window(std::span<const int32_t> ids, const Scorer& base, WindowScore& score) const override;
  std::string executor() const override { return "torch"; }
  std::string activations() const override { return "fp32"; }
  const torch_room::Decoder& decoder() const noexcept { return decoder_; }

 private:
  // Hidden states of a window after the final norm, [ids, width].
  at::Tensor hidden(const at::Tensor& index) const {
    auto cache = decoder_.open(1, index.size(1));
    return decoder_.forward(index, cache);
  }
  torch_room::Decoder decoder_;
};

class DeviceSession final : public ScorerSession {
 public:
  DeviceSession(std::shared_ptr<const DeviceScorer> scorer, size_t context)
      : scorer_(std::move(scorer)),
        context_(context),
        cache_(scorer_->decoder().open(1, static_cast<int64_t>(context))) {}

  void feed(std::span<const int32_t> ids, size_t first_row, const RowVisitor& visitor) override {
    check_fed_ids(scorer_->spec(), ids, position(), context_);
    for (size_t done = 0; done < ids.size(); done += kPiece)
      feed_piece(ids.subspan(done, std::min(kPiece, ids.size() - done)), first_row, visitor);
  }
  size_t position() const noexcept override { return static_cast<size_t>(cache_.used); }
  void reset() noexcept override { cache_.used = 0; }
  void truncate(size_t position) override {
    check_truncation(position, this->position());
    cache_.used = static_cast<int64_t>(position);
  }

 private:
  void feed_piece(std::span<const int32_t> ids, size_t first_row, const RowVisitor& visitor) {
    const size_t begin = position();
    const at::Tensor index = device_ids(ids);
    const at::Tensor hidden = scorer_->decoder().forward(index, cache_);
    if (first_row >= position()) return;
    const size_t skipped = first_row > begin ? first_row - begin : 0;
    const auto rows = static_cast<int64_t>(ids.size() - skipped);
    const at::Tensor logits =
        scorer_->decoder().logits(hidden.narrow(0, static_cast<int64_t>(skipped), rows)).to(at::kCPU).contiguous();
    const auto vocabulary = static_cast<size_t>(logits.size(1));
    for (int64_t i = 0; i < rows; ++i)
      visitor(begin + skipped + static_cast<size_t>(i),
              std::span<const float>(logits.data_ptr<float>() + static_cast<size_t>(i) * vocabulary, vocabulary));
  }

  std::shared_ptr<const DeviceScorer> scorer_;
  size_t context_;
  torch_room::Decoder::Cache cache_;
};

std::unique_ptr<ScorerSession> DeviceScorer::open(size_t context) const {
  if (context == 0) throw Error(ErrorKind::usage, "a session needs a context of at least one token");
  return std::make_unique<DeviceSession>(shared_from_this(), context);
}

bool DeviceScorer::score_window(std::span<const int32_t> ids, const Scorer& base, WindowScore& score) const {
  const auto* other = dynamic_cast<const DeviceScorer*>(&base);
  if (!other) return false;
  check_fed_ids(spec(), ids, 0, ids.size());
  const NoGrad guard;
  const at::Tensor index = device_ids(ids);
  const bool same = other == this;
  const at::Tensor model_hidden = hidden(index), base_hidden = same ? model_hidden : other->hidden(index);
  const int64_t positions = index.size(1) - 1;
  std::vector<at::Tensor> losses, divergences, tops;
  for (int64_t begin = 0; begin < positions; begin += kRows) {
    const int64_t count = std::min(kRows, positions - begin);
    const auto log_p = [&](const DeviceScorer& scorer, const at::Tensor& states) {
      return at::log_softmax(scorer.decoder_.logits(states.narrow(0, begin, count)).to(at::kDouble), 1);
    };
    const at::Tensor model = log_p(*this, model_hidden), reference = same ? model : log_p(*other, base_hidden);
    losses.push_back(-model.gather(1, index.select(0, 0).narrow(0, begin + 1, count).unsqueeze(1)).squeeze(1));
    divergences.push_back((reference.exp() * (reference - model)).sum(1));
    tops.push_back(model.argmax(1) == reference.argmax(1));
  }
  const auto append = [](const std::vector<at::Tensor>& parts, auto& to, at::ScalarType type) {
    const at::Tensor all = at::cat(parts).to(at::kCPU, type).contiguous();
    using Value = typename std::remove_reference_t<decltype(to)>::value_type;
    const auto* values = static_cast<const Value*>(all.data_ptr());
    to.assign(values, values + all.numel());
  };
  append(losses, score.loss, at::kDouble);
  append(divergences, score.divergence, at::kDouble);
  append(tops, score.same_top, at::kByte);
  return true;
}

}  // namespace

std::shared_ptr<const Scorer> make_device_scorer(const Model& model) { return std::make_shared<DeviceScorer>(model); }

}  // namespace whit
