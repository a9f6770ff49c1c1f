// Results as one self-contained page, and as pictures (SVG) for a README. Nothing is loaded from anywhere.
#pragma once

#include <string>
#include <string_view>

#include "report/records.h"

namespace whit {

// The page: table, quality against stored bytes (Chart.js, inlined), bits per layer, answers.
std::string html_page(const Results& results);

// Quality against stored bytes and bits per layer, one above the other, without scripts or fonts of its own.
std::string svg_picture(const Results& results);
// Bits per weight of each block and kind of one model, as a strip of cells.
std::string svg_layers(const ModelRecord& model);

// The colours of svg_layers.
std::string svg_legend();

// Chart.js as it was built in.
std::string_view chart_js() noexcept;

}  // namespace whit
