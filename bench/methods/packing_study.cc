// Weighted error per stored byte of the grid's packings on a model's linears, as docs/design/grid-packing.md shows it.
//   packing_study MODEL --text FILE [--blocks 1,14,28] [--tokens 8192] [--method gptq] [--options JSON] [--threads 2]
//                 [--bits 3,4] [--set all|narrow|zero|groups] or [--format JSON]
// Inputs of a block are those of the unquantized model. Prints one Markdown row a format: stored bits per weight,
// relative loss trace(d H d^T) / trace(w H w^T) of each kind of unit (pooled over the blocks), and all of them
// together.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>

#include "data/tokenizer.h"
#include "methods/stages.h"
#include "model/spec/model.h"
#include "model/torch/executor.h"

namespace whit {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Arguments {
  std::string model, text, method = "gptq", set = "all";
  std::vector<int64_t> blocks = {1, 14, 28}, bits = {3, 4};
  Json options = Json::object(), format;
  uint64_t tokens = 8192;
  int threads = 0;
};

std::vector<int64_t> numbers(const std::string& list) {
  std::vector<int64_t> out;
  std::stringstream stream(list);
  for (std::string item; std::getline(stream, item, ',');) out.push_back(std::stoll(item));
  return out;
}

Arguments parse(int argc, char** argv) {
  Arguments a;
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    if (!key.starts_with("--")) {
      a.model = key;
      continue;
    }
    if (i + 1 == argc) throw Error(ErrorKind::usage, "an argument is missing", key);
    const std::string value = argv[++i];
    if (key == "--text")
      a.text = value;
    else if (key == "--method")
      a.method = value;
    else if (key == "--set")
      a.set = value;
    else if (key == "--format")
      a.format = Json::parse(value);
    else if (key == "--options")
      a.options = Json::parse(value);
    else if (key == "--blocks")
      a.blocks = numbers(value);
    else if (key == "--bits")
      a.bits = numbers(value);
    else if (key == "--tokens")
      a.tokens = std::stoull(value);
    else if (key == "--threads")
      a.threads = std::stoi(value);
    else
      throw Error(ErrorKind::usage, "unknown argument", key);
  }
  if (a.model.empty() || a.text.empty()) throw Error(ErrorKind::usage, "packing_study MODEL --text FILE ...");
  return a;
}

// The units of the wanted blocks, with weights, grids of the source and gram matrices.
std::vector<TensorState> load_units(const Arguments& arguments, const Model& model) {
  const auto tokenizer = make_tokenizer(model.metadata);
  std::ifstream file(arguments.text, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::vector<int32_t> all = tokenizer->encode(text, false, false);
  // Windows of 512 ids, evenly spread over the text.
  const uint64_t windows = arguments.tokens / 512;
  if (windows == 0 || all.size() < 512 * windows)
    throw Error(ErrorKind::input, "the text is too short", arguments.text, std::to_string(all.size()) + " tokens");
  std::vector<int32_t> ids;
  for (uint64_t w = 0; w < windows; ++w) {
    const auto begin = all.begin() + static_cast<int64_t>((all.size() - 512) * w / windows);
    ids.insert(ids.end(), begin, begin + 512);
  }
  Activations activations{windows, 512, embed(model, ids)};

  std::vector<TensorState> units;
  const int64_t last = *std::max_element(arguments.blocks.begin(), arguments.blocks.end());
  for (int64_t block = 0; block <= last; ++block) {
    const DenseWeights weights = load_block(model, static_cast<uint64_t>(block));
    const bool wanted = std::count(arguments.blocks.begin(), arguments.blocks.end(), block) > 0;
    std::map<std::string, Matrix> grams;
    run_block(model.spec, static_cast<uint64_t>(block), weights, activations,
              wanted ? InputHook([&](const std::string& kind, MatrixView rows) {
                Matrix& gram = grams[kind];
                if (gram.rows == 0) gram = Matrix(rows.cols, rows.cols);
                add_gram(rows, gram);
              })
                     : InputHook());
    if (!wanted) continue;
    for (const UnitSpec& unit : units_of(model.spec)) {
      if (unit.block != block) continue;
      TensorState state;
      state.unit = unit;
      state.weights = Matrix(unit.rows, unit.cols);
      AffineParameters grid;
      float* to = state.weights.data.data();
      bool affine = true;
      for (size_t m = 0; m < unit.members.size(); ++m) {
        const Matrix& member = weights.at(unit.members[m]);
        to = std::copy(member.data.begin(), member.data.end(), to);
        const Packed packed = copy_packed(model.need(unit.members[m], {unit.member_rows[m], unit.cols}));
        const auto format = as_affine(packed.format);
        affine = affine && format && !format->has_columns();
        if (!affine) continue;
        const AffineCodes codes = format->unpack_codes(packed);
        state.source_group = format->group(unit.cols);
        grid.groups_per_row = codes.parameters.groups_per_row;
        grid.scale.insert(grid.scale.end(), codes.parameters.scale.begin(), codes.parameters.scale.end());
        grid.minimum.insert(grid.minimum.end(), codes.parameters.minimum.begin(), codes.parameters.minimum.end());
      }
      if (affine) state.source_grid = std::move(grid);
      auto statistics = std::make_shared<UnitStatistics>();
      statistics->gram = std::move(grams.at(unit.kind));
      for (float& value : statistics->gram.data) value /= static_cast<float>(ids.size());
      statistics->tokens = ids.size();
      state.statistics = std::move(statistics);
      units.push_back(std::move(state));
    }
  }
  return units;
}

std::vector<FormatPtr> formats(const Arguments& arguments) {
  std::vector<FormatPtr> out;
  if (!arguments.format.is_null()) return {make_format_from(arguments.format, "--format")};
  for (const int64_t bits : arguments.bits) {
    for (const int group : {16, 32, 64, 128})
      for (const int parameter_bits : {6, 8, 16})
        for (const char* zero : {"minimum", "integer", "symmetric"}) {
          if (arguments.set == "narrow" && parameter_bits == 16) continue;
          if (arguments.set == "zero" && parameter_bits != 8) continue;
          if (arguments.set == "groups" && (parameter_bits != 8 || std::string(zero) != "minimum")) continue;
          out.push_back(make_format(
              "grid", {{"bits", bits}, {"group", group}, {"parameter_bits", parameter_bits}, {"zero", zero}}));
        }
    out.push_back(make_format("grid", {{"bits", bits}, {"columns", true}}));
  }
  return out;
}

int study(const Arguments& arguments) {
  ThreadPool pool(arguments.threads);
  set_torch_threads(pool.threads());
  const ModelPtr model = load_model(arguments.model);
  const auto start = Clock::now();
  std::vector<TensorState> units = load_units(arguments, *model);
  std::fprintf(stderr, "inputs of %zu units in %.1f s\n", units.size(), seconds_since(start));
  const auto method = make_quantizer(arguments.method, arguments.options);
  const std::vector<std::string> kinds = {"attn_qkv", "attn_output", "ffn_gate_up", "ffn_down"};
  std::printf("| format | bits | qkv | output | gate_up | down | all | s |\n|---|---|---|---|---|---|---|---|\n");
  for (const FormatPtr& format : formats(arguments)) {
    const auto begin = Clock::now();
    std::map<std::string, double> loss, whole;
    double bytes = 0, weights = 0, log_loss = 0;
    for (TensorState& unit : units) {
      unit.plan = format;
      const StageReport report = method->quantize(unit, {pool});
      loss[unit.unit.kind] += report.loss;
      // An exact fit (the source's own grid) says nothing about the size of the unit; it counts as 1e-12.
      const double relative = std::max(report.relative_loss, 1e-12);
      if (report.relative_loss > 0) whole[unit.unit.kind] += report.loss / relative;
      const double count = static_cast<double>(unit.weights.data.size());
      bytes += static_cast<double>(unit.packed->bytes());
      weights += count;
      log_loss += count * std::log(relative);
      unit.packed.reset();
    }
    std::string row = fmt::format("| {} | {:.3f} |", format->label(), 8 * bytes / weights);
    for (const std::string& kind : kinds)
      row += fmt::format(" {:.3e} |", whole[kind] > 0 ? loss[kind] / whole[kind] : 0.0);
    std::printf("%s %.3e | %.2f |\n", row.c_str(), std::exp(log_loss / weights), seconds_since(begin));
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace whit

int main(int argc, char** argv) {
  try {
    return whit::study(whit::parse(argc, argv));
  } catch (const whit::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return error.exit_code();
  }
}
