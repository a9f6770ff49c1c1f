#include "report/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/comparisons.h"
#include "report/units.h"

namespace whit {
namespace {

const char* const page_style = R"(
:root{--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--back:#fff;--card:#f6f8fa;--accent:#0969da}
*{box-sizing:border-box}
body{margin:0 auto;padding:32px 20px 60px;max-width:1080px;background:var(--back);color:var(--ink);
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:36px 0 10px}h3{font-size:15px;margin:18px 0 8px}
p{margin:6px 0 12px}.soft,.tag{color:var(--soft)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:6px 10px;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
th{color:var(--soft);font-weight:600}.number{text-align:right}
.chart{height:400px;position:relative}
figure{margin:14px 0}figcaption{font-weight:600;margin-bottom:4px}
svg{width:100%;height:auto;display:block}
svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
.answer{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 16px;margin:10px 0}
.answer pre,.prompt{margin:6px 0 0;white-space:pre-wrap;overflow-wrap:anywhere;font:14px/1.5 ui-monospace,monospace}
)";

// Text inside <script>: nothing in it may close the element.
std::string script_json(const Json& json) {
  std::string out;
  for (const char c : json.dump(-1, ' ', false, Json::error_handler_t::replace)) {
    if (c == '<')
      out += "\\u003c";
    else
      out += c;
  }
  return out;
}

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

const char* const chart_script = R"(
const soft = getComputedStyle(document.documentElement).getPropertyValue('--soft');
const line = getComputedStyle(document.documentElement).getPropertyValue('--line');
JSON.parse(document.getElementById('points').textContent).forEach((data, number) => {
// A logarithmic axis has no 0: such points stand on the floor, and their label says so.
const all = data.ours.concat(data.others).map(p => p.kl).filter(kl => kl > 1e-6);
const floor = all.length ? Math.pow(10, Math.floor(Math.log10(Math.min(...all)))) : 1e-3;
const place = p => ({x: p.mb, y: Math.max(p.kl, floor), name: p.name, kl: p.kl, perplexity: p.perplexity});
const zero = p => !(p.kl > 1e-6);
const sets = [{label: 'whit', named: true, data: data.ours.filter(p => !zero(p)).map(place), borderColor: '#0969da', backgroundColor: '#0969da',
               pointRadius: 6, pointHoverRadius: 8, showLine: true, borderWidth: 2, tension: 0}];
if (data.ours.some(zero))  // no line leads to them: the axis does not reach 0
  sets.push({label: 'equal to the original (KL 0)', named: true, data: data.ours.filter(zero).map(place), clip: false,
             borderColor: '#0969da', backgroundColor: 'transparent', pointRadius: 6, pointHoverRadius: 8, borderWidth: 2});
if (data.others.length)
  sets.push({label: data.othersName, data: data.others.map(place), borderColor: '#8c959f', backgroundColor: '#8c959f',
             pointRadius: 3, showLine: true, borderWidth: 1, tension: 0});
const axis = title => ({title: {display: true, text: title, color: soft}, grid: {color: line}, ticks: {color: soft}});
new Chart(document.getElementById('quality-' + number), {
  type: 'scatter', data: {datasets: sets},
  options: {animation: false, maintainAspectRatio: false,
    scales: {x: axis('megabytes of the whole file'),
             y: Object.assign(axis('mean KL to the original, nats'), {type: 'logarithmic', min: floor})},
    plugins: {legend: {display: sets.length > 1, labels: {color: soft}},
      tooltip: {callbacks: {label: c => {
        const p = c.raw;
        return p.name + ': ' + p.x.toFixed(1) + ' MB, KL ' + (p.kl > 1e-6 ? p.kl.toFixed(5) : '0') +
               (p.perplexity === null ? '' : ', perplexity ' + p.perplexity.toFixed(2));
      }}}}},
  plugins: [{id: 'names', afterDatasetsDraw(chart) {
    const ink = getComputedStyle(document.body).color, area = chart.chartArea, c = chart.ctx;
    c.save(); c.font = '600 12px system-ui, sans-serif'; c.fillStyle = ink;
    chart.data.datasets.forEach((set, s) => set.named && chart.getDatasetMeta(s).data.forEach((point, i) => {
      const right = point.x > area.right - 140;
      c.textAlign = right ? 'right' : 'left';
      const p = set.data[i];
      c.fillText(p.name + (p.kl > 1e-6 ? '' : ' (KL 0)'), point.x + (right ? -9 : 9), point.y - 9);
    }));
    c.restore();
  }}]
});
});
)";

// The points of one chart; null where there are none.
Json chart_points(const Comparison& comparison, const std::string& others_name) {
  Json ours = Json::array(), others = Json::array();
  std::vector<EvalRow> rows = comparison.rows;
  std::stable_sort(rows.begin(), rows.end(),
                   [](const EvalRow& a, const EvalRow& b) { return a.file_bytes < b.file_bytes; });
  for (const EvalRow& row : rows)
    if (std::isfinite(row.kl_mean) && std::isfinite(row.file_bytes))
      ours.push_back(Json{{"name", short_name(row.model)},
                          {"mb", row.file_bytes / 1e6},
                          {"kl", row.kl_mean},
                          {"perplexity", number(row.perplexity_half)}});
  std::vector<ReferencePoint> points = comparison.references;
  std::stable_sort(points.begin(), points.end(),
                   [](const auto& a, const auto& b) { return a.file_bytes < b.file_bytes; });
  for (const ReferencePoint& point : points)
    if (std::isfinite(point.kl_mean) && std::isfinite(point.file_bytes))
      others.push_back(Json{{"name", point.name},
                            {"mb", point.file_bytes / 1e6},
                            {"kl", point.kl_mean},
                            {"perplexity", number(point.perplexity_half)}});
  if (ours.empty() && others.empty()) return nullptr;
  return {{"ours", ours}, {"others", others}, {"othersName", others_name.empty() ? "others" : others_name}};
}

std::string quality_section(const Results& results) {
  Json charts = Json::array();
  std::string canvases;
  for (const Comparison& comparison : comparisons(results)) {
    const Json points = chart_points(comparison, results.reference_name);
    if (points.is_null()) continue;
    canvases += "<h3>" + html_escape(comparison.heading) + "</h3>\n<div class=\"chart\"><canvas id=\"quality-" +
                std::to_string(charts.size()) + "\"></canvas></div>\n";
    charts.push_back(points);
  }
  if (charts.empty()) return {};
  return "<h2>Quality against stored bytes</h2>\n<p class=\"soft\">Down is better, left is smaller. The whole file "
         "counts: scales, embedding, tokenizer.</p>\n" +
         canvases + "<script type=\"application/json\" id=\"points\">" + script_json(charts) + "</script>\n<script>\n" +
         std::string(chart_js()) + "\n</script>\n<script>" + chart_script + "</script>\n";
}

std::string numbers_section(const Results& results) {
  if (results.rows.empty()) return {};
  std::string out = "<h2>The numbers</h2>\n";
  for (const Comparison& comparison : comparisons(results)) {
    if (comparison.rows.empty()) continue;
    out += "<h3>" + html_escape(comparison.heading) + "</h3>\n<div class=\"scroll\">" +
           html_table(eval_table(comparison.rows)) + "</div>\n";
  }
  return out +
         "<p class=\"soft\">Perplexity: second half of each window scored (with its standard error), then all "
         "positions. "
         "KL: divergence from the original in nats on the second halves, with its standard error.</p>\n";
}

std::string layers_section(const Results& results) {
  if (results.models.empty()) return {};
  std::string out =
      "<h2>Bits per layer</h2>\n<p class=\"soft\">A column is a block, a row a kind of matrix, the wide cell the "
      "embedding. Point at a cell for its format.</p>\n" + svg_legend();
  for (const ModelRecord& model : results.models) {
    out += "<figure><figcaption>" + html_escape(short_name(model.model));
    if (std::isfinite(model.file_bytes))
      out += fmt::format(" <span class=\"tag\">{}, {} bits per weight</span>",
                         format_bytes(static_cast<uint64_t>(model.file_bytes)),
                         format_number(model.file_bits_per_weight, 2));
    out += "</figcaption>\n" + svg_layers(model) + "</figure>\n";
  }
  return out;
}

std::string answers_section(const Results& results) {
  if (results.answers.empty()) return {};
  std::string out = "<h2>What they answer</h2>\n";
  if (!results.prompt.empty())
    out += "<p class=\"soft\">Asked:</p>\n<pre class=\"prompt\">" + html_escape(results.prompt) + "</pre>\n";
  for (const AnswerRecord& answer : results.answers)
    out += "<div class=\"answer\"><strong>" + html_escape(short_name(answer.model)) + "</strong>\n<pre>" +
           html_escape(answer.text) + "</pre></div>\n";
  return out;
}

}  // namespace

std::string html_page(const Results& results) {
  const std::string title = results.title.empty() ? "whit" : results.title;
  std::string page =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
      html_escape(title) + "</title>\n<style>" + page_style + "</style>\n</head>\n<body>\n<h1>" + html_escape(title) +
      "</h1>\n";
  if (!results.note.empty()) page += "<p class=\"soft\">" + html_escape(results.note) + "</p>\n";
  return page + numbers_section(results) + quality_section(results) + layers_section(results) +
         answers_section(results) + "</body>\n</html>\n";
}

}  // namespace whit
