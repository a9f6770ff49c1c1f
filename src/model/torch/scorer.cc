// The Scorer over this room's blocks: a session keeps keys and values and takes ids in pieces.
#include <algorithm>

#include "base/error.h"
#include "model/torch/block.h"
#include "model/torch/executor.h"
#include "model/torch/gemm.h"
#include "model/torch/weights.h"

namespace whit {
namespace {

using torch_room::BlockRunner;
using torch_room::BlockWeights;
using torch_room::KeyValueCache;
using torch_room::Operand;

// Ids that go through the blocks at a time, and rows of logits that exist at a time (128 x 49152 floats are 25 MB).
constexpr size_t kPiece = 512;
constexpr size_t kLogitRows = 128;
// Rows of the output matrix that are unpacked at a time when nothing is resident.
constexpr uint64_t kOutputRows = 4096;

class TorchScorer final : public Scorer, public std::enable_shared_from_this<TorchScorer> {
 public:
  TorchScorer(ModelPtr model, bool resident) : model_(std::move(model)), output_(model_->output()) {
    model_->need("token_embd.weight", {model_->spec.vocabulary, model_->spec.embedded()});
    if (!resident) return;
    for (uint64_t block = 0; block < model_->spec.layers; ++block) blocks_.push_back(load_block(*model_, block));
    head_ = Matrix(output_.rows, model_->spec.embedded());
    torch_room::unpack(output_, 0, output_.rows, head_.data.data());
  }

  const ModelSpec& spec() const noexcept override { return model_->spec; }
  std::unique_ptr<ScorerSession> open(size_t context) const override;
  std::string executor() const override { return "torch"; }
  std::string activations() const override { return "fp32"; }

  const Model& model() const noexcept { return *model_; }

  void run_block(BlockRunner& runner, uint64_t block, Matrix& x, KeyValueCache& cache, size_t offset) const {
    if (blocks_.empty()) {
      const DenseWeights weights = load_block(*model_, block);
      runner.run(block, BlockWeights(spec(), block, weights), x.data.data(), 1, x.rows, {}, &cache, offset);
    } else {
      runner.run(block, BlockWeights(spec(), block, blocks_[block]), x.data.data(), 1, x.rows, {}, &cache, offset);
    }
  }

  // logits [hidden.rows, vocabulary]
  void logits(MatrixView hidden, Matrix& out) const {
    const int64_t width = static_cast<int64_t>(spec().embedded()), vocabulary = static_cast<int64_t>(spec().vocabulary);
    const auto part = [&](const float* weights, uint64_t begin, uint64_t count) {
      torch_room::parallel_gemm(static_cast<int64_t>(hidden.rows), static_cast<int64_t>(count), width, 1.0f,
                                {hidden.data, static_cast<int64_t>(hidden.stride), 1}, {weights, 1, width}, 0.0f,
                                out.data.data() + begin, vocabulary);
    };
    if (!blocks_.empty()) {
      part(head_.data.data(), 0, spec().vocabulary);
    } else {
      Matrix rows(std::min(kOutputRows, spec().vocabulary), spec().embedded());
      for (uint64_t begin = 0; begin < spec().vocabulary; begin += kOutputRows) {
        const uint64_t count = std::min(kOutputRows, spec().vocabulary - begin);
        torch_room::unpack(output_, begin, count, rows.data.data());
        part(rows.data.data(), begin, count);
      }
    }
    check_activations(std::span(out.data).first(hidden.rows * spec().vocabulary), -1, "output");
    cap_logits(spec(), std::span(out.data).first(hidden.rows * spec().vocabulary));
  }

 private:
  ModelPtr model_;
  TensorView output_;
  std::vector<DenseWeights> blocks_;  // empty: unpacked while running
  Matrix head_;
};

class TorchSession final : public ScorerSession {
 public:
  TorchSession(std::shared_ptr<const TorchScorer> scorer, size_t context)
      : scorer_(std::move(scorer)), runner_(scorer_->spec(), context), caches_(scorer_->spec().layers), context_(context) {}

  void feed(std::span<const int32_t> ids, size_t first_row, const RowVisitor& visitor) override {
    check_fed_ids(scorer_->spec(), ids, position_, context_);
    for (size_t done = 0; done < ids.size(); done += kPiece)
      feed_piece(ids.subspan(done, std::min(kPiece, ids.size() - done)), first_row, visitor);
  }
  size_t position() const noexcept override { return position_; }
  void reset() noexcept override { position_ = 0; }
  void truncate(size_t position) override {
    check_truncation(position, position_);
    position_ = position;
  }

 private:
  void feed_piece(std::span<const int32_t> ids, size_t first_row, const RowVisitor& visitor) {
    Matrix x = embed(scorer_->model(), ids, 0, position_);
    for (uint64_t block = 0; block < scorer_->spec().layers; ++block)
      scorer_->run_block(runner_, block, x, caches_[block], position_);
    const size_t begin = position_;
    position_ += ids.size();
    if (first_row >= position_) return;
    const size_t skipped = first_row > begin ? first_row - begin : 0;
    const Matrix hidden = final_norm(scorer_->model(), MatrixView(x.row(skipped), x.rows - skipped, x.cols, x.cols));
    Matrix logits(std::min(kLogitRows, hidden.rows), scorer_->spec().vocabulary);
    for (size_t first = 0; first < hidden.rows; first += kLogitRows) {
      const size_t count = std::min(kLogitRows, hidden.rows - first);
      scorer_->logits(MatrixView(hidden.row(first), count, hidden.cols, hidden.cols), logits);
      for (size_t i = 0; i < count; ++i)
        visitor(begin + skipped + first + i, std::span<const float>(logits.row(i), logits.cols));
    }
  }

  std::shared_ptr<const TorchScorer> scorer_;
  BlockRunner runner_;
  std::vector<KeyValueCache> caches_;
  size_t context_, position_ = 0;
};

std::unique_ptr<ScorerSession> TorchScorer::open(size_t context) const {
  if (context == 0) throw Error(ErrorKind::usage, "a session needs a context of at least one token");
  return std::make_unique<TorchSession>(shared_from_this(), context);
}

}  // namespace

std::shared_ptr<const Scorer> make_torch_scorer(ModelPtr model, bool resident) {
  return std::make_shared<TorchScorer>(std::move(model), resident);
}

}  // namespace whit
