// The factories behind formats.def, one file each. Used by formats.cc and by nobody else.
#pragma once

#include <string>

#include "format/format.h"

namespace whit::format_factories {

struct NoOptions {
  template <class V>
  void visit(V&) {}
};

#define WHIT_FORMAT(name, factory, summary) FormatPtr factory(const Json& options, const std::string& where);
#include "format/formats.def"
#undef WHIT_FORMAT

}  // namespace whit::format_factories
