// What several verbs do with a model on the command line.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/threads.h"
#include "data/tokenizer.h"
#include "model/spec/model.h"
#include "model/spec/scorer.h"
#include "runtime/runtime.h"

namespace CLI {
class App;
}

namespace whit {

class Progress;

// The tokenizer of a GGUF file or a folder; says its notes.
std::shared_ptr<const Tokenizer> load_tokenizer(const Model& model, Progress& progress);

// --threads --isa --activations --executor --no-verify, the same in run, eval and bench.
struct ExecutorChoice {
  int threads = 0;  // 0: all cores
  std::string isa;
  std::string activations = "fp32";
  std::string executor = "runtime";
  std::string device = "cpu";
  bool no_verify = false;
  void declare(CLI::App& app, bool choose_executor);
  // ErrorKind::usage for names that do not exist or do not go together. Before any work is done.
  void check() const;
  RuntimeOptions runtime_options() const;
};

// Says so if the model is larger than the free memory.
ModelPtr open_model(const std::filesystem::path& path, const ExecutorChoice& choice, Progress& progress);
std::shared_ptr<const Scorer> open_scorer(const ModelPtr& model, ThreadPool& pool, const ExecutorChoice& choice);

// Positions of a session: those asked for with --context (0: `usual`, or what the model was trained for if that is
// less). ErrorKind::usage for more than the model has.
size_t session_context(const Model& model, int64_t asked, uint64_t usual);

// A JSON array of token ids. "-" is standard input. Anything else in the file is ErrorKind::input.
std::vector<int32_t> read_ids(const std::filesystem::path& path);
// Standard input to its end, byte for byte.
std::string read_standard_input();

// Bytes of the file per weight of the model, in bits.
double file_bits_per_weight(const Model& model);
// "attn_qkv" ... of every tensor and member name of the model; norms and biases are absent.
std::map<std::string, std::string> unit_kinds(const ModelSpec& spec);

}  // namespace whit
