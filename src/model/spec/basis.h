// The same model in another basis: tensors are those of the original, seen through rotations and a norm's gain that are
// applied whenever rows are unpacked (StoredTensor::rotation and ::gain). Nothing is copied; the result keeps the original
// alive and is a model like any other for whoever unpacks weights. docs/design/rotation.md has the algebra.
#pragma once

#include "model/spec/model.h"

namespace whit {

// The residual stream in the basis of R: s = R^T x. Gains of the norms before q, k, v, gate and up are folded into those
// (W diag(g) R), o and down give R^T W, the norms become ones; embedding, output and final norm stay, and
// ModelSpec::stream_rotation says where to turn. ErrorKind::usage where the model has no such form: norms
// other than rms or after a branch, learned positions, a bias of o or down, matrices that are stored rotated already, a rotation of another size.
ModelPtr turn_stream(const ModelPtr& model, const RotationPtr& rotation);

// Values in another basis, the same for every head: v gives R^T W for every head, o takes W R for every head. Attention only
// sums values over positions, so nothing between has to know. ErrorKind::usage as above, for a bias of v and a head size
// other than R's.
ModelPtr turn_values(const ModelPtr& model, const RotationPtr& rotation);

// The other way, for a file whose stream is turned (ModelSpec::stream_rotation): the same function of the ids without. Readers
// give W diag(g) R^T, g the gain of the norm before them, which becomes ones; writers give R W and R b. Every matrix of a block
// stands by itself in the result, which is there to be unpacked and written. The model itself where no stream is turned;
// ErrorKind::input for norms that have no such form: layer norms, norms after a branch or a sum.
ModelPtr turn_back_stream(const ModelPtr& model);

}  // namespace whit
