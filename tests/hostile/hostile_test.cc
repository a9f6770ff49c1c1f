// Files that are legal and odd, and files that are wrong behind right checksums: none crashes, hangs or takes memory,
// all executors say the same of each, and `convert` gives it back or refuses.
//   WHIT_HOSTILE_CASES=20000 hostile_test       WHIT_HOSTILE_FIRST=4711 WHIT_HOSTILE_CASES=1 hostile_test
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>

#include "base/file.h"
#include "hostile/generate.h"
#include "hostile/judge.h"
#include "hostile/mutate.h"

namespace whit::tests {
namespace {

constexpr unsigned kHangSeconds = 60;
constexpr rlim_t kMemory = rlim_t{2} << 30;  // beyond what the process has; the models have some hundred kilobytes

uint64_t from_environment(const char* name, uint64_t fallback) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : fallback;
}

// Files that are made or stored: what cases start from beside models that are drawn.
std::vector<std::filesystem::path> sources() {
  std::vector<std::filesystem::path> all;
  for (const char* folder : {"golden", "models"})
    for (const auto& entry :
         std::filesystem::directory_iterator(std::filesystem::path(WHIT_TESTS_DIR) / "data" / folder))
      if (entry.path().extension() == ".gguf") all.push_back(entry.path());
  if (const char* more = std::getenv("WHIT_HOSTILE_SOURCES"))  // a folder of compressed models
    for (const auto& entry : std::filesystem::directory_iterator(more))
      if (entry.path().extension() == ".gguf") all.push_back(entry.path());
  std::sort(all.begin(), all.end());
  return all;
}

Judged one_case(uint64_t number, const std::filesystem::path& folder) {
  Rng rng(number * 1000003 + 17);
  const std::filesystem::path file = folder / fmt::format("case{}.gguf", number);
  std::string history;
  static const std::vector<std::filesystem::path> stored = sources();
  static std::map<std::filesystem::path, FileParts> read;
  FileParts parts;
  const bool drawn = rng.below(4) != 0;
  if (drawn) {
    ModelOutput output = drawn_model(rng);
    if (rng.below(8) != 0) output = in_drawn_formats(output, rng);
    write_output(output, file);
    history = "drawn " + output.metadata.string("general.architecture");
    parts = read_parts(file);
  } else {
    const std::filesystem::path& from = stored[rng.below(stored.size())];
    if (!read.contains(from)) read[from] = read_parts(from);
    parts = read[from];
    history = from.filename();
  }
  for (uint64_t changes = rng.below(drawn ? 4 : 3) + (drawn ? 0 : 1); changes > 0; --changes)
    history += "; " + mutate(parts, rng);
  write_parts(parts, file);
  if (rng.below(16) == 0) history += "; " + move_offset(file, rng);
  Judged judged = judge(file, folder, rng.below(2) == 0);
  judged.why = history + ": " + judged.why;
  if (judged.verdict != Verdict::wrong) std::filesystem::remove(file);
  return judged;
}

struct Tally {
  std::array<uint64_t, static_cast<size_t>(Verdict::kCount)> counts{};
  std::vector<std::string> wrong;
};

// Cases [first, first + count), in child processes: one that dies or stands still takes its case along, the next goes
// on.
Tally run_cases(uint64_t first, uint64_t count) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / fmt::format("whit_hostile{}", getpid());
  std::filesystem::create_directories(folder);
  const std::filesystem::path log = folder / "log";
  Tally tally;
  for (uint64_t done = 0; done < count;) {
    std::filesystem::remove(log);
    const pid_t child = fork();
    if (child == 0) {
#if !defined(__SANITIZE_ADDRESS__)
      std::ifstream statm("/proc/self/statm");
      rlim_t pages = 0;
      statm >> pages;
      const rlimit limit{pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + kMemory, RLIM_INFINITY};
      setrlimit(RLIMIT_AS, &limit);
#endif
      std::ofstream out(log);
      for (uint64_t i = done; i < count; ++i) {
        alarm(kHangSeconds);
        const Judged judged = one_case(first + i, folder);
        out << static_cast<int>(judged.verdict) << ' ' << fmt::format("{:?}", judged.why) << std::endl;
      }
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    std::ifstream in(log);
    for (std::string line; std::getline(in, line); ++done) {
      const size_t verdict = static_cast<size_t>(line[0] - '0');
      ++tally.counts.at(verdict);
      if (verdict >= static_cast<size_t>(Verdict::wrong))
        tally.wrong.push_back(fmt::format("case {}: {}", first + done, line));
      if (std::getenv("WHIT_HOSTILE_VERBOSE")) fmt::print("case {}: {}\n", first + done, line);
    }
    if (done == count || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) break;
    const bool hung = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
    ++tally.counts.at(static_cast<size_t>(hung ? Verdict::hung : Verdict::crashed));
    tally.wrong.push_back(fmt::format("case {}: {} (status {})", first + done, hung ? "hang" : "crash", status));
    ++done;
  }
  if (tally.wrong.empty()) std::filesystem::remove_all(folder);
  return tally;
}

TEST(Hostile, FilesBehindRightChecksums) {
  const uint64_t first = from_environment("WHIT_HOSTILE_FIRST", 0);
  const uint64_t count = from_environment("WHIT_HOSTILE_CASES", std::getenv("WHIT_HOSTILE_LONG") ? 5000 : 200);
  const Tally tally = run_cases(first, count);
  for (size_t v = 0; v < tally.counts.size(); ++v) fmt::print("{:>8} {}\n", tally.counts[v], kVerdicts[v]);
  for (const std::string& line : tally.wrong) ADD_FAILURE() << line;
  // Cases that are all refused would prove nothing.
  EXPECT_GT(tally.counts[static_cast<size_t>(Verdict::same)], count / 10);
}

class Crafted : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path file() const { return folder_ / "case.gguf"; }
  std::string refusal(ErrorKind kind) const {
    try {
      load_model(file());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      return error.what();
    }
    return "was read";
  }

  std::filesystem::path folder_ = std::filesystem::temp_directory_path() / fmt::format("whit_crafted{}", getpid());
};

// One number of a model as it is made elsewhere: whatever it does on the way, every executor ends with the same error.
TEST_F(Crafted, NumbersThatOverflowAreOneError) {
  const std::filesystem::path stories = WHIT_TESTS_DIR "/data/models/stories260K.gguf";
  struct Row {
    const char* tensor;
    float value;
    bool all;
  };
  for (const Row& row : {Row{"blk.0.attn_norm.weight", 1e20f, true}, Row{"blk.1.ffn_norm.weight", 3e38f, true},
                         Row{"blk.2.attn_v.weight", 1e30f, false}, Row{"blk.0.ffn_down.weight", std::nanf(""), false},
                         Row{"blk.4.ffn_gate.weight", -3e38f, true}, Row{"output_norm.weight", 1e25f, true},
                         Row{"token_embd.weight", INFINITY, true}}) {
    SCOPED_TRACE(row.tensor);
    FileParts parts = read_parts(stories);
    for (FileTensor& tensor : parts.tensors)
      for (size_t at = 0; tensor.name == row.tensor && at < (row.all ? tensor.bytes.size() : 4); at += 4)
        std::memcpy(tensor.bytes.data() + at, &row.value, 4);
    write_parts(parts, file());
    const Judged judged = judge(file(), folder_, false);
    EXPECT_EQ(judged.verdict, Verdict::overflow) << kVerdicts[static_cast<size_t>(judged.verdict)] << judged.why;
  }
}

// In the basis of a turned stream the norm gives more than any executor takes; with the gain in the weights it would
// not.
TEST_F(Crafted, AGainTooLargeForOneBasis) {
  Rng rng(11);
  ModelOutput output;
  do output = in_drawn_formats(drawn_model(rng), rng);
  while (!output.stream || output.metadata.string("general.architecture") != "llama");
  write_output(output, file());
  FileParts parts = read_parts(file());
  const float huge = 1e15f;
  for (FileTensor& tensor : parts.tensors)
    if (tensor.name == "blk.0.attn_norm.weight")
      for (size_t at = 0; at < tensor.bytes.size(); at += 4) std::memcpy(tensor.bytes.data() + at, &huge, 4);
  write_parts(parts, file());
  for (const bool as_folder : {false, true}) {
    const Judged judged = judge(file(), folder_, as_folder);
    EXPECT_EQ(judged.verdict, Verdict::overflow) << judged.why;
    EXPECT_NE(judged.why.find("gain of a norm"), std::string::npos) << judged.why;
  }
}

// One of two would be read and both written.
TEST_F(Crafted, AMemberThatIsATensorTooIsRefused) {
  for (const std::filesystem::path& source : sources()) {
    const ModelPtr model = load_model(source);
    const auto stack = std::find_if(model->tensors.begin(), model->tensors.end(),
                                    [](const StoredTensor& tensor) { return !tensor.members.empty(); });
    if (stack == model->tensors.end()) continue;
    FileParts parts = read_parts(source);
    FileTensor again = *std::find_if(parts.tensors.begin(), parts.tensors.end(),
                                     [](const FileTensor& tensor) { return tensor.name == "output_norm.weight"; });
    again.name = stack->members.back().name;
    parts.tensors.push_back(again);
    write_parts(parts, file());
    EXPECT_NE(refusal(ErrorKind::input).find("twice"), std::string::npos) << source << refusal(ErrorKind::input);
    return;
  }
  FAIL() << "no stored model has stacks";
}

TEST_F(Crafted, PartsThatNoPackerWritesAreRefused) {
  Rng rng(3);
  ModelOutput output;
  do output = drawn_model(rng);
  while (output.metadata.string("general.architecture") != "llama");
  const auto with = [&](const Json& format, const std::string& part, uint16_t fill) {
    ModelOutput changed = output;
    OutputTensor& tensor = *std::find_if(changed.tensors.begin(), changed.tensors.end(),
                                         [](const OutputTensor& one) { return one.name == "blk.0.ffn_down.weight"; });
    tensor.format = make_format_from(format, "test");
    auto packed = std::make_shared<Packed>(Packed{tensor.format, tensor.shape, {}});
    for (const PartSpec& spec : tensor.format->parts(tensor.shape)) {
      packed->parts.emplace_back(spec.bytes);
      for (size_t at = 0; spec.suffix == part && at + 1 < spec.bytes; at += 2)
        std::memcpy(packed->parts.back().data() + at, &fill, 2);
    }
    tensor.load = [packed] { return packed; };
    write_output(changed, file());
  };
  const Json residual = {{"name", "binary_groups"}, {"regions", 2}, {"block", 0}, {"residual", 1}};
  with(residual, "columns", 0);
  EXPECT_EQ(refusal(ErrorKind::input), "was read");
  with(residual, "columns", 0xffff);
  EXPECT_NE(refusal(ErrorKind::input).find("salient"), std::string::npos);
  with({{"name", "nm_sign"}, {"n", 2}, {"m", 8}}, "scales", 0x7c00);
  EXPECT_NE(refusal(ErrorKind::numeric).find("infinity"), std::string::npos);
  with({{"name", "nm_f16"}, {"n", 2}, {"m", 8}}, "values", 0x7e01);
  EXPECT_NE(refusal(ErrorKind::numeric).find("NaN"), std::string::npos);
  with({{"name", "grid"}, {"bits", 4}, {"group", 16}, {"parameter_bits", 8}}, "row_scales", 0xbc00);
  EXPECT_NE(refusal(ErrorKind::input).find("negative"), std::string::npos);
}

}  // namespace
}  // namespace whit::tests
