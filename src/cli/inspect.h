// What `whit inspect` knows of a model, for the report as well.
#pragma once

#include "model/spec/model.h"
#include "report/records.h"

namespace whit {

ModelRecord model_record(const Model& model, const std::string& path);

}  // namespace whit
