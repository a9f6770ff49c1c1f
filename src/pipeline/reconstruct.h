// Training one block inside the walk: what a reconstruct step of a recipe does (docs/design/tune.md).
#pragma once

#include "base/progress.h"
#include "model/torch/executor.h"
#include "pipeline/student.h"

namespace whit {

// References must outlive reconstruct_block().
struct BlockJob {
  const Model& model;  // the original: the spec and what is no unit
  uint64_t block;
  const Plan& units;  // all of the block, in the formats in which they learn
  UnitStarter start;
  const Vectors& vectors;     // norms that are no longer the model's
  const Activations& inputs;  // of the block: the compressed prefix's
  const Matrix& targets;      // [tokens, width]
  const Reconstructor& method;
  uint64_t seed;  // draws the order of the windows
  bool latents;   // they are wanted in the end
  Progress& progress;
};

struct ReconstructedBlock {
  Encoded encoded;
  Json report;  // the method's
};

// ErrorKind::numeric names the unit where numbers exploded.
ReconstructedBlock reconstruct_block(const BlockJob& job);

// ErrorKind::usage, before anything is done, where task and calibration cannot meet.
void check_reconstruct(const BlockTask& task, const CalibrateOptions& calibrate);

// Bytes that are held at most while a block learns, besides the process's start: streams, the block, leaves, optimizer.
uint64_t reconstruct_bytes(const Model& model, const Plan& plan, const CalibrateOptions& calibrate,
                           const BlockTask& task);

}  // namespace whit
