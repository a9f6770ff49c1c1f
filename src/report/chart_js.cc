#include "report/html.h"

// The assembler copies the file into the program's constants.
asm(".pushsection .rodata\n"
    ".global whit_chart_js_begin\n"
    ".global whit_chart_js_end\n"
    "whit_chart_js_begin:\n"
    ".incbin \"" WHIT_CHART_JS
    "\"\n"
    "whit_chart_js_end:\n"
    ".popsection\n");

extern "C" const char whit_chart_js_begin[];
extern "C" const char whit_chart_js_end[];

namespace whit {

std::string_view chart_js() noexcept {
  return {whit_chart_js_begin, static_cast<size_t>(whit_chart_js_end - whit_chart_js_begin)};
}

}  // namespace whit
