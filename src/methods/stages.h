// The stages of a recipe and what each asks of a method. A method is one .cc file that implements one of these interfaces
// and has a row in methods.def; nothing here knows a method by name.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/options.h"
#include "base/threads.h"
#include "calibrate/statistics.h"
#include "format/format.h"
#include "model/spec/model.h"
#include "model/torch/adamw.h"
#include "model/torch/learner.h"
#include "model/torch/matrix.h"
#include "model/torch/parametrization.h"

namespace whit {

enum class Stage { basis, importance, allocate, transform, prune, quantize, reconstruct, tune, cache };

struct StageRow {
  Stage stage;
  std::string name;       // as in a recipe's documentation
  std::string interface;  // "weight + statistics + format -> codes"
  bool whole_model;       // runs before or after the walk instead of unit by unit
};
const std::vector<StageRow>& stage_rows();  // stages.def

// What passes from stage to stage: one unit (a tensor, or a stack of tensors that read the same input) on its way from
// the original to the file. A mask survives every later stage, a rotation travels with its unit.
struct TensorState {
  UnitSpec unit;
  Matrix weights;             // [rows, cols] as the next stage shall see them
  Matrix scores;              // [rows, cols], the higher the more a weight matters; empty: none (set by importance)
  std::vector<uint8_t> mask;  // [rows * cols], 1 = kept; empty: all kept (set by prune). A weight that is 0 in it is 0
  UnitRotation rotation;      // of weights and statistics, and so of what will be stored (set by transform)
  FormatPtr plan;             // the format that allocation or recipe chose
  std::shared_ptr<const UnitStatistics> statistics;
  // Set where all members are stored in an affine format of the source: its groups and levels, so that a grid of the same
  // groups can start from them (a Q4_1 original lies on 16 levels per 32 inputs).
  std::optional<AffineParameters> source_grid;
  uint64_t source_group = 0;
  std::optional<Packed> packed;  // set by quantize
  // What the quantizer knows of signs beyond the packed ones, for ParametrizationStart; empty: nothing.
  std::vector<Matrix> latents;
};

// What a stage did, for the log and the manifest.
struct StageReport {
  double loss = 0;           // weighted squared error trace(d gram d^T), d = unpacked - weights
  double relative_loss = 0;  // loss / trace(w gram w^T)
  double damp_ratio = 0;     // what the factorization needed (gptq), 0 where there is none
};

struct MethodContext {
  ThreadPool& pool;
  uint64_t seed = 0;
};

class Method {
 public:
  virtual ~Method() = default;
  virtual Json options() const = 0;  // all of them, normalized
};

// model -> the same function with its weights in another basis. Everything behind it sees the result.
class Basis : public Method {
 public:
  // ErrorKind::usage for a model that has no such form. Copies no weights.
  virtual ModelPtr change(const ModelPtr& model) const = 0;
};

// weight + statistics -> scores, finite, the higher the more the weight matters. Sets state.scores.
class Importance : public Method {
 public:
  virtual void score(TensorState& state, const MethodContext& context) const = 0;
  virtual bool needs_statistics() const = 0;
  virtual uint64_t scratch_bytes(Shape) const { return 0; }  // as Quantizer's, the scores not counted
};

// weight + statistics -> the same function in another basis: sets state.rotation, turns state.weights and the
// statistics by it, and forgets the source's grid.
class Transform : public Method {
 public:
  // What it will set: known before anything is read, since a file's size depends on it. ErrorKind::usage for a unit
  // that it cannot transform.
  virtual UnitRotation rotation(const UnitSpec& unit) const = 0;
  virtual void transform(TensorState& state, const MethodContext& context) const = 0;
  virtual uint64_t scratch_bytes(Shape shape) const = 0;  // as Quantizer's
};

// weight + scores -> mask. Sets state.mask, puts zeros into state.weights and may repair the weights that are kept.
class Pruner : public Method {
 public:
  virtual StageReport prune(TensorState& state, const MethodContext& context) const = 0;
  virtual bool needs_statistics() const = 0;
  virtual bool needs_scores() const = 0;
  virtual uint64_t scratch_bytes(Shape shape) const = 0;  // as Quantizer's
  virtual std::optional<NmPattern> pattern() const { return std::nullopt; }  // of the mask, where it has one
};

// weight + statistics + format -> codes. Sets state.packed; leaves state.weights alone. One thread at a time an instance.
class Quantizer : public Method {
 public:
  virtual StageReport quantize(TensorState& state, const MethodContext& context) const = 0;
  virtual bool accepts(const Format& format) const = 0;  // quantize() to another one is ErrorKind::usage
  virtual bool needs_statistics() const = 0;             // false: works without
  // Bytes held while a unit of this shape is rounded, besides its weights, its gram and the packed result.
  virtual uint64_t scratch_bytes(Shape shape, const Format& format) const = 0;
};

// What a reconstructor wants of a block's inputs and targets.
struct BlockTask {
  // The targets are what the original block makes of the original's stream; else of the stream that the compressed blocks
  // before it give, which the block that learns sees in either case.
  bool original_targets = true;
  bool unit_by_unit = false;  // the block learns after every unit that was quantized, the others still dense; else once
  double held_out = 0;        // share of the windows that are not trained on
  uint64_t batch = 0;         // tokens of a step, whole windows, at least one
};

// What a reconstructor works on: one block whose weights are leaves, its inputs and what it should make of them. Handed
// in by the pipeline.
class BlockProblem {
 public:
  virtual ~BlockProblem() = default;
  virtual std::string name() const = 0;  // "blk.3"
  virtual std::vector<ParameterGroup> parameters() = 0;
  virtual uint64_t steps() const = 0;  // of an epoch, which sees every window that is trained on once
  // Batch `number` (counted on over the epochs) forward and backward: adds the gradients of what it returns, the mean over
  // tokens of |y - y'|^2 / |y'|^2, y' the target.
  virtual double step(uint64_t number) = 0;
  // The same mean over the windows that are not trained on.
  virtual double held_out() = 0;
  virtual void keep() = 0;  // the values as they are now are the best so far
  virtual void back() = 0;  // to what was kept last
};

// inputs + targets + parameters -> parameters.
class Reconstructor : public Method {
 public:
  virtual BlockTask task() const = 0;
  // Leaves the best values behind. Returns {epochs, held_out_start, held_out} for the log.
  virtual Json reconstruct(BlockProblem& problem) const = 0;
};

// What a tuner works on: a whole model whose weights are leaves, and a text. Handed in by the pipeline.
class TuneProblem {
 public:
  virtual ~TuneProblem() = default;
  // The leaves by kind. Valid until restart().
  virtual std::vector<ParameterGroup> parameters() = 0;
  // Batches that the budget allows.
  virtual uint64_t steps() const = 0;
  // Batch `number` forward and backward: adds the gradients of main + hidden * LossParts::hidden.
  virtual LossParts step(uint64_t number, double hidden) = 0;
  // The main loss on text that is not trained on.
  virtual double held_out() = 0;
  // How often that may be asked, the start included: it takes time that a run has been given for training.
  virtual int most_looks() const { return 1 << 20; }
  // The values as they are now are the best so far, or: everything back to where it began.
  virtual void keep() = 0;
  virtual void restart() = 0;
  // A point at which the run can be stopped; `state` is what resume() gives back when it goes on from there.
  virtual void checkpoint(uint64_t step, const Json& state, const AdamW& optimizer) = 0;
  virtual std::optional<Json> resume(AdamW& optimizer) = 0;
  virtual void progress(uint64_t step, const LossParts& loss, double held_out) = 0;
  virtual void note(const std::string& text) = 0;
};

// model + data -> deltas.
class Tuner : public Method {
 public:
  // Returns {steps, held_out_start, held_out, restarts, ...} for the log and the manifest.
  virtual Json tune(TuneProblem& problem) const = 0;
  // How often a run would ask for the held-out loss, the start included.
  virtual int looks() const = 0;
  // Fewer are no schedule: what they leave behind is not what the method can do.
  virtual uint64_t least_steps() const = 0;
};

// One possible format of a unit.
struct Choice {
  uint64_t bytes = 0;
  double loss = 0;  // predicted KL in nats that this choice adds
};

// sensitivities + budget -> plan. choices[u] are unit u's, any order. Returns an index per unit with the sum of bytes at most
// `budget`, or an empty vector when even the smallest choices exceed it. A larger budget never gives a larger total loss.
class Allocator : public Method {
 public:
  virtual std::vector<size_t> allocate(std::span<const std::vector<Choice>> choices, uint64_t budget) const = 0;
};

// ---- the table, made from methods.def ----

struct MethodRow {
  Stage stage;
  std::string name, paper, needs, summary, status;  // status: stable, trial
  std::vector<OptionDescription> options;
};
const std::vector<MethodRow>& method_rows();

// ErrorKind::usage with the nearest known name, or for an option that the method does not have.
const MethodRow& method_row(std::string_view name);
std::unique_ptr<Basis> make_basis(std::string_view name, const Json& options);
std::unique_ptr<Importance> make_importance(std::string_view name, const Json& options);
std::unique_ptr<Transform> make_transform(std::string_view name, const Json& options);
std::unique_ptr<Pruner> make_pruner(std::string_view name, const Json& options);
std::unique_ptr<Quantizer> make_quantizer(std::string_view name, const Json& options);
std::unique_ptr<Reconstructor> make_reconstructor(std::string_view name, const Json& options);
std::unique_ptr<Tuner> make_tuner(std::string_view name, const Json& options);
std::unique_ptr<Allocator> make_allocator(std::string_view name, const Json& options);

}  // namespace whit
