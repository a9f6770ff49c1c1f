// Pictures as SVG: quality against bytes, and bits per layer. Same records, same picture, byte for byte.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/comparisons.h"
#include "report/html.h"
#include "report/units.h"

namespace whit {
namespace {

// Colours of bits per weight: dark blue (1) over green to yellow (9), even in lightness.
std::string bits_colour(double bits) {
  struct Stop {
    double at, r, g, b;
  };
  static constexpr Stop stops[] = {
      {0, 48, 18, 84}, {2, 62, 73, 137}, {4, 38, 130, 142}, {6, 53, 183, 121}, {9, 253, 231, 37}};
  const double at = std::clamp(bits, stops[0].at, std::end(stops)[-1].at);
  size_t i = 1;
  while (i + 1 < std::size(stops) && at > stops[i].at) ++i;
  const double t = (at - stops[i - 1].at) / (stops[i].at - stops[i - 1].at);
  const auto mix = [&](double a, double b) { return static_cast<int>(std::lround(a + t * (b - a))); };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(stops[i - 1].r, stops[i].r), mix(stops[i - 1].g, stops[i].g),
                     mix(stops[i - 1].b, stops[i].b));
}

std::string text_at(double x, double y, const char* anchor, const char* style, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" class=\"{}\">{}</text>\n", x, y, anchor, style,
                     html_escape(text));
}

const char* const style =
    "<style>text{font-family:system-ui,-apple-system,'Segoe UI',sans-serif;fill:#24292f;font-size:13px}"
    ".small{font-size:11px;fill:#57606a}.title{font-size:16px;font-weight:600}.name{font-weight:600}"
    ".halo{paint-order:stroke;stroke:#fff;stroke-width:3px}"
    ".axis{stroke:#8c959f;stroke-width:1}.grid{stroke:#d8dee4;stroke-width:1}</style>\n";

constexpr double label_width = 110, cell_height = 18;

// The strip's cells with its top left corner at (x, y); returns the height used.
double draw_layers(std::string& out, const ModelRecord& model, double x, double y, double width) {
  const LayerBits layers = layer_bits(model);
  const double ends = 70;  // the embedding's cell, left of the blocks
  const double cell = layers.blocks ? (width - label_width - ends) / static_cast<double>(layers.blocks) : 0;
  const double rows = static_cast<double>(std::max<size_t>(layers.kinds.size(), 1));
  const auto box = [&](double bx, double by, double bw, double bh, double bits, const std::string& title) {
    out += fmt::format(
        "<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" fill=\"{}\"><title>{}: {:.3f} bits per "
        "weight</title></rect>\n",
        bx, by, std::max(bw - 1, 0.5), bh - 1, bits_colour(bits), html_escape(title), bits);
  };
  for (size_t kind = 0; kind < layers.kinds.size(); ++kind) {
    const double top = y + static_cast<double>(kind) * cell_height;
    out += text_at(x + label_width - 8, top + 13, "end", "small", layers.kinds[kind]);
    for (uint64_t block = 0; block < layers.blocks; ++block)
      if (std::isfinite(layers.bits[kind][block]))
        box(x + label_width + ends + static_cast<double>(block) * cell, top, cell, cell_height,
            layers.bits[kind][block],
            fmt::format("block {}, {} ({})", block, layers.kinds[kind], layers.formats[kind][block]));
  }
  const double height = rows * cell_height;
  const bool both = std::isfinite(layers.output);
  const auto end_box = [&](double top, double tall, double bits, const std::string& name, const std::string& format) {
    if (!std::isfinite(bits)) return;
    box(x + label_width, top, ends - 8, tall, bits, name + " (" + format + ")");
    // White on dark cells, black on light ones.
    out += fmt::format(
        "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" class=\"small\" style=\"fill:{}\">{}</text>\n",
        x + label_width + (ends - 9) / 2, top + tall / 2 + 4, bits < 5 ? "#ffffff" : "#24292f",
        fmt::format("{} {:.1f}", name == "embedding" ? "emb." : "out.", bits));
  };
  end_box(y, both ? height / 2 : height, layers.embedding, "embedding", layers.embedding_format);
  if (both) end_box(y + height / 2, height / 2, layers.output, "output", layers.output_format);
  return height;
}

double draw_legend(std::string& out, double x, double y) {
  out += text_at(x, y + 11, "start", "small", "bits per weight");
  for (int bits = 1; bits <= 9; ++bits) {
    const double left = x + label_width + (bits - 1) * 30;
    out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"29\" height=\"14\" fill=\"{}\"/>\n", left, y,
                       bits_colour(bits));
    out += fmt::format(
        "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" class=\"small\" style=\"fill:{}\">{}</text>\n",
        left + 14.5, y + 11, bits < 5 ? "#ffffff" : "#24292f", bits);
  }
  return 14;
}

struct Point {
  double megabytes, kl;
  std::string name;
  bool reference;
};

// KL against bytes, y logarithmic; a KL of 0 stands on the lower edge.
void draw_quality(std::string& out, const Comparison& comparison, const std::string& others_name, double x, double y,
                  double width, double height) {
  std::vector<Point> points;
  for (const ReferencePoint& point : comparison.references)
    if (std::isfinite(point.file_bytes) && std::isfinite(point.kl_mean))
      points.push_back({point.file_bytes / 1e6, point.kl_mean, point.name, true});
  for (const EvalRow& row : comparison.rows)
    if (std::isfinite(row.file_bytes) && std::isfinite(row.kl_mean))
      points.push_back({row.file_bytes / 1e6, row.kl_mean, short_name(row.model), false});
  const double left = x + 62, right = x + width - 16, top = y + 28, bottom = y + height - 40;
  out += text_at(left, y + 14, "start", "name", comparison.heading);
  if (points.empty()) {
    out += text_at(left, top + 20, "start", "small", "nothing was measured against a base");
    return;
  }
  double least_kl = 1e300, most_kl = 0, least_mb = 1e300, most_mb = 0;
  for (const Point& point : points) {
    if (point.kl > 1e-6) least_kl = std::min(least_kl, point.kl);
    most_kl = std::max(most_kl, point.kl);
    least_mb = std::min(least_mb, point.megabytes);
    most_mb = std::max(most_mb, point.megabytes);
  }
  if (least_kl > most_kl) least_kl = 1e-3, most_kl = 1;
  const double low = std::floor(std::log10(least_kl)), high = std::max(low + 1, std::ceil(std::log10(most_kl)));
  const double span = std::max(most_mb - least_mb, most_mb * 0.05);
  const double from = std::max(0.0, least_mb - span * 0.06), to = most_mb + span * 0.06;
  const auto at_x = [&](double mb) { return left + (mb - from) / (to - from) * (right - left); };
  const auto at_y = [&](double kl) {
    return kl > 1e-6 ? bottom - std::clamp((std::log10(kl) - low) / (high - low), 0.0, 1.0) * (bottom - top) : bottom;
  };
  for (double power = low; power <= high; ++power) {
    const double line = at_y(std::pow(10, power));
    out += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"grid\"/>\n", left, line,
                       right, line);
    out += text_at(left - 6, line + 4, "end", "small", fmt::format("{:g}", std::pow(10, power)));
  }
  const double raw = (to - from) / 8, unit = std::pow(10, std::floor(std::log10(raw)));
  const double tick = raw / unit < 1.5 ? unit : raw / unit < 3.5 ? 2 * unit : raw / unit < 7.5 ? 5 * unit : 10 * unit;
  for (double mb = std::ceil(from / tick) * tick; mb <= to; mb += tick) {
    out += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"grid\"/>\n", at_x(mb),
                       top, at_x(mb), bottom);
    out += text_at(at_x(mb), bottom + 16, "middle", "small", fmt::format("{:g}", mb));
  }
  out += fmt::format("<line x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\" class=\"axis\"/>\n", left, top,
                     bottom);
  out += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"axis\"/>\n", left, bottom,
                     right, bottom);
  out += text_at((left + right) / 2, bottom + 34, "middle", "small", "megabytes of the whole file");
  out += fmt::format(
      "<text transform=\"translate({:.1f} {:.1f}) rotate(-90)\" text-anchor=\"middle\" class=\"small\">"
      "mean KL to the original, nats</text>\n",
      x + 14, (top + bottom) / 2);
  std::stable_sort(points.begin(), points.end(),
                   [](const Point& a, const Point& b) { return a.megabytes < b.megabytes; });
  // Names of more points than these would cover each other; they stand in the table and in the titles of the points.
  constexpr std::ptrdiff_t kNamedPoints = 6;
  const bool named = std::count_if(points.begin(), points.end(), [](const Point& p) { return !p.reference; }) <= kNamedPoints;
  for (const bool reference : {true, false}) {
    std::string path;
    for (const Point& point : points)
      if (point.reference == reference && point.kl > 1e-6)  // no line to a point that the axis does not reach
        path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : " L", at_x(point.megabytes), at_y(point.kl));
    const char* colour = reference ? "#8c959f" : "#0969da";
    if (!path.empty())
      out += fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"/>\n", path, colour,
                         reference ? 1 : 2);
    for (const Point& point : points) {
      if (point.reference != reference) continue;
      const double px = at_x(point.megabytes), py = at_y(point.kl);
      out += fmt::format(
          "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" fill=\"{}\"><title>{}: {:.1f} MB, KL {:.5f}</title></circle>\n",
          px, py, reference ? 3 : 5, colour, html_escape(point.name), point.megabytes, point.kl);
      if (reference || !named) continue;
      const std::string size = format_bytes(static_cast<uint64_t>(point.megabytes * 1e6 + 0.5));
      const bool at_right = px > right - 120;
      out += text_at(px + (at_right ? -8 : 8), py - 8, at_right ? "end" : "start", "name halo", point.name);
      out += text_at(px + (at_right ? -8 : 8), py + (py > bottom - 16 ? -22 : 6), at_right ? "end" : "start", "small halo",
                     point.kl > 1e-6 ? size + fmt::format(", KL {:.4f}", point.kl)
                                     : size + ", KL 0");
    }
  }
  if (!comparison.references.empty()) {
    const double lx = right - 150, ly = top + 6;
    out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\" fill=\"#0969da\"/>\n", lx, ly);
    out += text_at(lx + 10, ly + 4, "start", "small", "whit");
    out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"#8c959f\"/>\n", lx + 60, ly);
    out += text_at(lx + 70, ly + 4, "start", "small", others_name.empty() ? "others" : others_name);
  }
}

}  // namespace

std::string svg_layers(const ModelRecord& model) {
  constexpr double width = 920;
  std::string body;
  const double height = draw_layers(body, model, 0, 2, width);
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"bits per "
      "weight of {}\">\n{}</svg>\n",
      width, height + 4, html_escape(short_name(model.model)), body);
}

std::string svg_legend() {
  std::string body;
  draw_legend(body, 0, 2);
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 920 20\" role=\"img\" aria-label=\"colours of bits per "
         "weight\">\n" + body + "</svg>\n";
}

std::string svg_picture(const Results& results) {
  constexpr double width = 960, margin = 20, chart = 380;
  std::string body;
  double y = margin;
  body += text_at(margin, y + 14, "start", "title", results.title);
  y += 30;
  body += text_at(margin, y + 14, "start", "title", "Quality against stored bytes");
  y += 24;
  std::vector<Comparison> drawn = comparisons(results);
  if (drawn.empty()) drawn.emplace_back();
  for (const Comparison& comparison : drawn) {
    draw_quality(body, comparison, results.reference_name, margin, y, width - 2 * margin, chart);
    y += chart + 22;
  }
  if (!results.models.empty()) {
    body += text_at(margin, y + 8, "start", "title", "Where the bits went");
    y += 20;
    y += draw_legend(body, margin, y) + 10;
    for (const ModelRecord& model : results.models) {
      const std::string size =
          std::isfinite(model.file_bytes)
              ? fmt::format("{}: {}, {:.2f} bits per weight", short_name(model.model),
                            format_bytes(static_cast<uint64_t>(model.file_bytes)), model.file_bits_per_weight)
              : short_name(model.model);
      body += text_at(margin, y + 12, "start", "name", size);
      y += 18;
      y += draw_layers(body, model, margin, y, width - 2 * margin) + 12;
    }
  }
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} "
      "{1:.0f}\">\n"
      "{2}<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{3}</svg>\n",
      width, y + margin, style, body);
}

}  // namespace whit
