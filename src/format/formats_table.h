// The factories behind formats.def, one file each. Used by formats.cc and by nobody else.
#pragma once

#include <string>

#include "format/format.h"

namespace whit {

// ErrorKind::input that names the tensor where rows are no whole number of a ggml format's blocks.
void check_whole_blocks(Shape shape, std::string_view tensor, const char* format, uint64_t block);

}  // namespace whit

namespace whit::format_factories {

struct NoOptions {
  template <class V>
  void visit(V&) {}
};

std::vector<OptionDescription> no_options();

#define WHIT_FORMAT(name, factory, describe, summary)               \
  FormatPtr factory(const Json& options, const std::string& where); \
  std::vector<OptionDescription> describe();
#include "format/formats.def"
#undef WHIT_FORMAT

}  // namespace whit::format_factories
