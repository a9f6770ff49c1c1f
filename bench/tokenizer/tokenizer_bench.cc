// Megabytes of text a second on one core, by kind of text: prose, and the texts that make merging hard.
//   tokenizer_bench MODEL.gguf [TEXT] --benchmark_repetitions=5
// Without TEXT the Jargon File is used. bytes_per_second counts processor time.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <exception>
#include <memory>

#include "data/text.h"
#include "data/tokenizer.h"
#include "format/gguf.h"

namespace {

void add(const std::shared_ptr<const whit::Tokenizer>& tokenizer, const std::string& name, const std::string& text) {
  const std::vector<int32_t> ids = tokenizer->encode(text, false, false);
  if (tokenizer->decode(ids, false) != text) {
    std::fprintf(stderr, "%s: decoding does not give the text back\n", name.c_str());
    std::exit(1);
  }
  const auto report = [bytes = text.size(), tokens = ids.size()](benchmark::State& state) {
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
    state.counters["tokens"] = static_cast<double>(tokens);
  };
  benchmark::RegisterBenchmark(("encode/" + name).c_str(), [=](benchmark::State& state) {
    for (auto _ : state) benchmark::DoNotOptimize(tokenizer->encode(text, false, false));
    report(state);
  })->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark(("decode/" + name).c_str(), [=](benchmark::State& state) {
    for (auto _ : state) benchmark::DoNotOptimize(tokenizer->decode(ids, false));
    report(state);
  })->Unit(benchmark::kMillisecond);
}

int run(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr, "usage: tokenizer_bench MODEL.gguf [TEXT] [--benchmark_...]\n");
    return 2;
  }
  const auto tokenizer = whit::make_tokenizer(whit::GgufFile::open(argv[1]).metadata);
  const std::string text = argc == 3 ? whit::read_text(argv[2]) : whit::default_judging_text();
  constexpr size_t kMegabyte = 1000000;
  std::string without_spaces, letters;
  for (const char c : text) {
    if (c != ' ' && c != '\n') without_spaces.push_back(c);
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) letters.push_back(c);
  }
  std::printf("%s\n", tokenizer->kind().c_str());
  add(tokenizer, "text", text);
  if (without_spaces.size() > kMegabyte) without_spaces.resize(kMegabyte);
  // Cutting may have left part of a character at the end.
  while (!without_spaces.empty() && (without_spaces.back() & 0x80)) without_spaces.pop_back();
  add(tokenizer, "without_spaces", without_spaces);
  if (letters.size() > kMegabyte) letters.resize(kMegabyte);
  add(tokenizer, "letters_only", letters);
  add(tokenizer, "one_letter", std::string(kMegabyte, 'a'));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
