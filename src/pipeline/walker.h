// The walk: block by block, one block in full precision at a time, every finished unit into the journal. A block sees
// the activations of the compressed blocks before it, always computed from weights unpacked from the journal, so that a
// run that was killed and resumed sees the same bits as one that was not. A reconstruct step trains each block when its
// units are quantized, or after each of them; such a block enters the journal as a whole.
#pragma once

#include "base/progress.h"
#include "base/threads.h"
#include "data/text.h"
#include "pipeline/journal.h"
#include "pipeline/plan.h"

namespace whit {

struct WalkContext {
  const Model& model;
  const Plan& plan;
  const CalibrateOptions& calibrate;
  const CalibrationWindows* windows;  // null when nothing in the plan needs statistics and no block is trained
  const Matrix* output_gram;          // statistics of embedding and output; null: they get none
  Journal& journal;
  const Reconstructor* reconstruct;  // null: blocks are not trained
  bool keep_latents;                 // a tune step follows
  ThreadPool& pool;
  Progress& progress;
};

constexpr size_t kSideBySide = 40;  // units that are rounded together where there is a card

// Quantizes every unit of the plan that is not copied and not in the journal yet.
void walk(const WalkContext& context);

// The unit as it will stand in the file: copied from the source, or from the journal.
std::shared_ptr<const Packed> finished_unit(const Model& model, const UnitPlan& unit, const Journal& journal);

}  // namespace whit
