#include "methods/registry.h"

#include <algorithm>

#include "base/names.h"

namespace whit {

#define WHIT_METHOD(stage, name, ...) MethodDefinition method_##stage##_##name();
#include "methods/methods.def"
#undef WHIT_METHOD

namespace {

struct Entry {
  Stage stage;
  const char* name;
  MethodDefinition (*definition)();
};

constexpr Entry entries[] = {
#define WHIT_METHOD(stage, name, ...) {Stage::stage, #name, method_##stage##_##name},
#include "methods/methods.def"
#undef WHIT_METHOD
};

const char* stage_name(Stage stage) {
  for (const StageRow& row : stage_rows())
    if (row.stage == stage) return row.name.c_str();
  return "";
}

// The interface is checked by the cast: a row of another stage, or a class that does not implement its stage.
template <class Interface>
std::unique_ptr<Interface> make(Stage stage, std::string_view name, const Json& options) {
  const MethodRow& row = method_row(name);
  if (row.stage != stage) {
    std::vector<std::string> fitting;
    for (const MethodRow& other : method_rows())
      if (other.stage == stage) fitting.push_back(other.name);
    throw Error(ErrorKind::usage, "the method belongs to another stage", std::string(name),
                std::string("stage ") + stage_name(row.stage) + ", wanted " + stage_name(stage),
                suggest_name("", fitting));
  }
  for (const Entry& entry : entries) {
    if (row.name != entry.name) continue;
    std::unique_ptr<Method> method = entry.definition().make(options);
    auto* wanted = dynamic_cast<Interface*>(method.get());
    WHIT_CHECK(wanted != nullptr);
    method.release();
    return std::unique_ptr<Interface>(wanted);
  }
  check_failed("a row has an entry", __FILE__, __LINE__);
}

}  // namespace

const std::vector<StageRow>& stage_rows() {
  static const std::vector<StageRow> rows = {
#define WHIT_STAGE(stage, interface, whole_model) {Stage::stage, #stage, interface, whole_model},
#include "methods/stages.def"
#undef WHIT_STAGE
  };
  return rows;
}

const std::vector<MethodRow>& method_rows() {
  static const std::vector<MethodRow> rows = {
#define WHIT_METHOD(stage, name, paper, needs, summary, status) \
  {Stage::stage, #name, paper, needs, summary, #status, method_##stage##_##name().describe()},
#include "methods/methods.def"
#undef WHIT_METHOD
  };
  return rows;
}

const MethodRow& method_row(std::string_view name) {
  std::vector<std::string> known;
  for (const MethodRow& row : method_rows()) {
    if (row.name == name) return row;
    known.push_back(row.name);
  }
  throw Error(ErrorKind::usage, "unknown method", std::string("method"), std::string(name), suggest_name(name, known));
}

std::unique_ptr<Basis> make_basis(std::string_view name, const Json& options) {
  return make<Basis>(Stage::basis, name, options);
}

std::unique_ptr<Importance> make_importance(std::string_view name, const Json& options) {
  return make<Importance>(Stage::importance, name, options);
}

std::unique_ptr<Transform> make_transform(std::string_view name, const Json& options) {
  return make<Transform>(Stage::transform, name, options);
}

std::unique_ptr<Pruner> make_pruner(std::string_view name, const Json& options) {
  return make<Pruner>(Stage::prune, name, options);
}

std::unique_ptr<Reconstructor> make_reconstructor(std::string_view name, const Json& options) {
  return make<Reconstructor>(Stage::reconstruct, name, options);
}

std::unique_ptr<Tuner> make_tuner(std::string_view name, const Json& options) {
  return make<Tuner>(Stage::tune, name, options);
}

std::unique_ptr<Quantizer> make_quantizer(std::string_view name, const Json& options) {
  return make<Quantizer>(Stage::quantize, name, options);
}

std::unique_ptr<Allocator> make_allocator(std::string_view name, const Json& options) {
  return make<Allocator>(Stage::allocate, name, options);
}

}  // namespace whit
