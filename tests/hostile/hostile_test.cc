// Files that are legal and odd, and files that are wrong behind right checksums: none crashes, hangs or takes memory, all
// executors say the same of each, and `convert` gives it back or refuses.
//   WHIT_HOSTILE_CASES=20000 hostile_test       WHIT_HOSTILE_FIRST=4711 WHIT_HOSTILE_CASES=1 hostile_test
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
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
    for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(WHIT_TESTS_DIR) / "data" / folder))
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

// Cases [first, first + count), in child processes: one that dies or stands still takes its case along, the next goes on.
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
      if (verdict >= static_cast<size_t>(Verdict::wrong)) tally.wrong.push_back(fmt::format("case {}: {}", first + done, line));
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
  const uint64_t count = from_environment("WHIT_HOSTILE_CASES", std::getenv("WHIT_HOSTILE_LONG") ? 5000 : 300);
  const Tally tally = run_cases(first, count);
  for (size_t v = 0; v < tally.counts.size(); ++v) fmt::print("{:>8} {}\n", tally.counts[v], kVerdicts[v]);
  for (const std::string& line : tally.wrong) ADD_FAILURE() << line;
  // Cases that are all refused would prove nothing.
  EXPECT_GT(tally.counts[static_cast<size_t>(Verdict::same)], count / 10);
}

}  // namespace
}  // namespace whit::tests
