// whit bench: prompt and decode speed over threads, beside what the machine can do.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>

#include "base/error.h"
#include "cli/open.h"
#include "cli/values.h"
#include "cli/verbs.h"
#include "evaluate/speed.h"
#include "report/records.h"
#include "report/table.h"
#include "report/units.h"
#include "runtime/peaks.h"
#include "runtime/runtime.h"

namespace whit {
namespace {

struct BenchOptions {
  std::string model, threads;
  std::string activations;  // "" both
  SpeedOptions speed;
  bool json = false;
  ExecutorChoice executor;
};

// Bytes of weights that one token reads: all but an embedding that is only looked up.
double bytes_per_token(const Model& model) {
  double bytes = 0;
  for (const StoredTensor& tensor : model.tensors)
    if (model.spec.tied_output || tensor.name != "token_embd.weight") bytes += static_cast<double>(tensor.bytes());
  return bytes;
}

// Multiplications and additions of one token through the linears; attention is left out (it grows with the context).
double operations_per_token(const ModelSpec& spec, bool with_head) {
  double weights = 0;
  for (const UnitSpec& unit : units_of(spec))
    if (unit.block >= 0) weights += static_cast<double>(unit.rows) * static_cast<double>(unit.cols);
  if (with_head) weights += static_cast<double>(spec.vocabulary) * static_cast<double>(spec.width);
  return 2 * weights;
}

struct Row {
  int threads;
  std::string activations;
  Speed speed;
  MachinePeaks peaks;
  double bandwidth_share, compute_share;
};

void bench(const BenchOptions& options, Terminal& terminal) {
  std::vector<int> threads;
  if (!options.threads.empty()) {
    threads = whole_numbers("--threads", options.threads, 1, 1024);
  } else {
    for (int count = 1; count < available_cores(); count *= 2) threads.push_back(count);
    threads.push_back(available_cores());
  }
  const ModelPtr model = open_model(options.model, options.executor, terminal);
  const uint64_t trained = model->spec.longest_context();
  if (trained && std::max(options.speed.prompt, options.speed.decode) > trained)
    throw Error(ErrorKind::usage, "more tokens than the model was trained for", "--prompt, --decode",
                std::to_string(std::max(options.speed.prompt, options.speed.decode)),
                fmt::format("at most {}", trained));
  std::vector<std::string> kinds = {"fp32", "int8"};
  if (!options.activations.empty()) kinds = {options.activations};

  for (const std::string& kind : kinds) {
    ExecutorChoice choice = options.executor;
    choice.activations = kind;
    choice.check();
  }
  std::vector<Row> rows;
  std::string isa;
  terminal.begin("measuring", static_cast<double>(threads.size() * kinds.size()) * 2 * options.speed.repeats);
  for (const int count : threads) {
    ThreadPool pool(count);
    const MachinePeaks peaks = measure_machine_peaks(pool, options.executor.isa);
    for (const std::string& kind : kinds) {
      ExecutorChoice choice = options.executor;
      choice.activations = kind;
      isa = isa_in_use(choice.runtime_options());
      const auto scorer = open_scorer(model, pool, choice);
      Row row{pool.threads(), kind, measure_speed(*scorer, options.speed, terminal), peaks, not_measured, not_measured};
      if (peaks.read_gigabytes_per_second > 0)
        row.bandwidth_share =
            row.speed.decode_tokens_per_second * bytes_per_token(*model) / (peaks.read_gigabytes_per_second * 1e9);
      // int8 products are no floating-point operations: no share of that peak.
      if (peaks.gigaflops > 0 && kind == "fp32")
        row.compute_share =
            row.speed.prompt_tokens_per_second * operations_per_token(model->spec, false) / (peaks.gigaflops * 1e9);
      rows.push_back(row);
    }
  }
  terminal.end();

  const auto number = [](double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); };
  if (options.json) {
    Json json = {{"model", options.model},           {"isa", isa},
                 {"prompt", options.speed.prompt},   {"decode", options.speed.decode},
                 {"repeats", options.speed.repeats}, {"rows", Json::array()}};
    for (const Row& row : rows)
      json["rows"].push_back(Json{{"threads", row.threads},
                                  {"activations", row.activations},
                                  {"prompt_tokens_per_second", number(row.speed.prompt_tokens_per_second)},
                                  {"prompt_least", number(row.speed.prompt_least)},
                                  {"prompt_most", number(row.speed.prompt_most)},
                                  {"decode_tokens_per_second", number(row.speed.decode_tokens_per_second)},
                                  {"decode_least", number(row.speed.decode_least)},
                                  {"decode_most", number(row.speed.decode_most)},
                                  {"bandwidth_share", number(row.bandwidth_share)},
                                  {"compute_share", number(row.compute_share)},
                                  {"read_gigabytes_per_second", number(row.peaks.read_gigabytes_per_second)},
                                  {"gigaflops", number(row.peaks.gigaflops)}});
    write_json(json);
    return;
  }
  Table table{{{"threads"},
               {"activations", false},
               {"prompt tokens/s"},
               {"spread", false},
               {"of GFLOP/s peak"},
               {"decode tokens/s"},
               {"spread", false},
               {"of read peak"}},
              {}};
  const auto percent = [](double share) { return std::isfinite(share) ? fmt::format("{:.0f} %", 100 * share) : "-"; };
  for (const Row& row : rows)
    table.add({std::to_string(row.threads), row.activations, format_number(row.speed.prompt_tokens_per_second, 1),
               fmt::format("({:.0f} to {:.0f})", row.speed.prompt_least, row.speed.prompt_most),
               percent(row.compute_share) + fmt::format(" of {:.0f}", row.peaks.gigaflops),
               format_number(row.speed.decode_tokens_per_second, 1),
               fmt::format("({:.0f} to {:.0f})", row.speed.decode_least, row.speed.decode_most),
               percent(row.bandwidth_share) + fmt::format(" of {:.1f} GB/s", row.peaks.read_gigabytes_per_second)});
  write_result(text_table(table) + fmt::format("{} with {}; prompt of {} tokens, {} decoded; medians of {}\n",
                                               short_name(options.model), isa, options.speed.prompt,
                                               options.speed.decode, options.speed.repeats));
}

}  // namespace

Verb bench_verb() {
  return {"bench", "speed of prompt and answer over threads, beside the machine's own limits",
          "whit bench tests/data/models/stories260K.gguf --prompt 128 --decode 32", false,
          [](CLI::App& app) -> VerbBody {
            auto options = std::make_shared<BenchOptions>();
            options->executor.activations.clear();
            app.add_option("MODEL", options->model, "a GGUF file or a Hugging Face folder")->required();
            app.add_option("--threads,-t", options->threads,
                           "thread counts to try, like 1,2; default: 1, 2, 4 ... all cores");
            app.add_option("--activations", options->executor.activations, "fp32 or int8; default: both");
            app.add_option("--isa", options->executor.isa,
                           "instruction set to use instead of the best one of this machine");
            app.add_option("--prompt", options->speed.prompt, "tokens of the prompt")
                ->transform(whole_number(1, 1 << 20))
                ->capture_default_str();
            app.add_option("--decode", options->speed.decode, "tokens of the answer")
                ->transform(whole_number(1, 1 << 20))
                ->capture_default_str();
            app.add_option("--repeats", options->speed.repeats, "measurements, their median is shown")
                ->transform(whole_number(1, 1000))
                ->capture_default_str();
            app.add_flag("--json", options->json, "print JSON (docs/cli.md)");
            app.add_flag("--no-verify", options->executor.no_verify, "do not verify the checksums of the file");
            return [options](Terminal& terminal) {
              options->activations = options->executor.activations;
              bench(*options, terminal);
            };
          }};
}

}  // namespace whit
