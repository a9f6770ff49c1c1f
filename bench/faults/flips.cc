// Flips bits of a model's files one after another; after each it loads the model, asks for eight tokens, and says what came
// of it: flips MODEL [STEP]. Every bit of headers, metadata and text files is flipped, of tensor data every STEP-th (97).
//
// The flips lie in a private copy. A child process does them, a limit of memory on it; this one watches: a child that dies is a
// crash, one that stands still for 20 s a hang, and the next child goes on after that flip. Prints a JSON object: for each
// region of the files how many flips had which outcome, and for the worst ones where they were. Ends with 1 after a crash, a
// hang, or where a model with checksums (integrity "ok") says something else or loads as if nothing had happened.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <new>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/file.h"
#include "data/tokenizer.h"
#include "format/gguf.h"
#include "model/spec/model.h"
#include "runtime/runtime.h"
#include "runtime/sampler.h"

namespace whit {
namespace {

// In the order of the table. refused: load_model threw; later: the tokenizer or the session did. same: every logit has its
// old bits. close: another logit somewhere, the same answer. changed: another answer.
enum Outcome : uint8_t { refused, later, same, close_by, changed, crashed, hung, kOutcomes };
constexpr std::array<const char*, kOutcomes> kNames = {"refused on load", "error later",     "same logits", "same answer",
                                                       "another answer",  "crash or memory", "hang"};
constexpr int kHangSeconds = 20;
constexpr rlim_t kMemory = rlim_t{2} << 30;  // address space of the child; the models have a megabyte

struct Region {
  std::string name;
  std::filesystem::path file;
  uint64_t begin = 0, end = 0, step = 1;  // bits
  uint64_t flips() const { return (end - begin + step - 1) / step; }
};

struct Said {
  std::vector<int32_t> ids;
  std::string text;
  std::vector<float> logits;
};

Said answer(const ModelPtr& model) {
  Said said;
  const auto tokenizer =
      model->tokenizer_files.empty() ? make_tokenizer(model->metadata) : make_tokenizer(model->tokenizer_files);
  said.ids = tokenizer->encode("Once upon a time", true, true);
  ThreadPool pool(1);
  const auto session = make_runtime(model, pool)->open(said.ids.size() + 8);
  SamplerOptions greedy;
  greedy.temperature = 0;
  Sampler sampler(greedy);
  std::span<const int32_t> fed = said.ids;
  std::vector<int32_t> fresh;
  for (int i = 0; i < 8; ++i) {
    int32_t next = -1;
    session->feed(fed, session->position() + fed.size() - 1, [&](size_t, std::span<const float> row) {
      said.logits.insert(said.logits.end(), row.begin(), row.end());
      next = sampler.next(row, said.ids);
    });
    fresh = {next};
    said.ids.push_back(next);
    fed = fresh;
  }
  said.text = tokenizer->decode(said.ids, true);
  return said;
}

Outcome outcome_of(const std::filesystem::path& path, const Said& wanted) {
  ModelPtr model;
  try {
    model = load_model(path);
  } catch (const Error& error) {
    return error.kind() == ErrorKind::internal ? crashed : refused;
  } catch (const std::bad_alloc&) {
    return crashed;
  }
  try {
    const Said said = answer(model);
    if (said.ids != wanted.ids || said.text != wanted.text) return changed;
    const bool bits = std::memcmp(said.logits.data(), wanted.logits.data(), wanted.logits.size() * sizeof(float)) == 0;
    return bits ? same : close_by;
  } catch (const Error& error) {
    return error.kind() == ErrorKind::internal ? crashed : later;
  } catch (const std::bad_alloc&) {
    return crashed;
  }
}

std::vector<Region> regions_of(const std::filesystem::path& path, uint64_t step) {
  std::vector<Region> regions;
  const auto add = [&](std::string name, const std::filesystem::path& file, uint64_t begin, uint64_t end, uint64_t every) {
    if (begin < end) regions.push_back({std::move(name), file, 8 * begin, 8 * end, every});
  };
  if (!std::filesystem::is_directory(path)) {
    const GgufFile gguf = GgufFile::open(path);
    const uint64_t end = gguf.file->bytes().size();
    add("header, metadata", path, 0, gguf.header_bytes, 1);
    uint64_t at = gguf.header_bytes;
    for (const GgufTensor& tensor : gguf.tensors) {
      add("padding", path, at, gguf.data_start + tensor.offset, 1);
      add("data", path, gguf.data_start + tensor.offset, at = gguf.data_start + tensor.offset + tensor.data.size(), step);
    }
    add("padding", path, at, end, 1);
    return regions;
  }
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    const uint64_t size = entry.file_size();
    const std::string name = entry.path().filename().string();
    if (entry.path().extension() != ".safetensors") {
      add(name, entry.path(), 0, size, 1);
      continue;
    }
    const auto file = MappedFile::open(entry.path());
    uint64_t header = 0;
    std::memcpy(&header, file->bytes().data(), sizeof(header));
    add("header, metadata", entry.path(), 0, 8 + header, 1);
    add("data", entry.path(), 8 + header, size, step);
  }
  return regions;
}

// What parent and child share: where the child is, and what came of each flip.
struct Shared {
  std::atomic<uint64_t> next;  // lock-free
  uint8_t outcomes[1];
};

struct Flips {
  std::vector<Region> regions;
  std::vector<uint64_t> first;  // number of each region's first flip
  uint64_t count = 0;
  std::pair<const Region*, uint64_t> at(uint64_t number) const {  // region and bit
    const size_t r = static_cast<size_t>(std::upper_bound(first.begin(), first.end(), number) - first.begin()) - 1;
    return {&regions[r], regions[r].begin + (number - first[r]) * regions[r].step};
  }
};

void flip(const std::filesystem::path& file, uint64_t bit) {
  const int descriptor = ::open(file.c_str(), O_RDWR);
  uint8_t byte = 0;
  const auto offset = static_cast<off_t>(bit / 8);
  bool fine = descriptor >= 0 && ::pread(descriptor, &byte, 1, offset) == 1;
  byte = static_cast<uint8_t>(byte ^ (1u << bit % 8));
  fine = fine && ::pwrite(descriptor, &byte, 1, offset) == 1;
  ::close(descriptor);
  if (!fine) throw Error(ErrorKind::io, "a bit cannot be flipped", file.string());
}

[[noreturn]] void child(const std::filesystem::path& path, const Flips& flips, const Said& wanted, Shared& shared) {
#if !defined(__SANITIZE_ADDRESS__)
  const rlimit limit{kMemory, kMemory};
  ::setrlimit(RLIMIT_AS, &limit);
#endif
  for (; shared.next < flips.count; ++shared.next) {
    const auto [region, bit] = flips.at(shared.next);
    flip(region->file, bit);
    shared.outcomes[shared.next] = outcome_of(path, wanted);
    flip(region->file, bit);
  }
  ::_exit(0);
}

void watch(const std::filesystem::path& path, const Flips& flips, const Said& wanted, Shared& shared) {
  while (shared.next < flips.count) {
    const pid_t process = ::fork();
    if (process == 0) child(path, flips, wanted, shared);
    uint64_t seen = shared.next;
    int status = 0, still = 0;
    while (::waitpid(process, &status, WNOHANG) == 0) {
      ::usleep(10'000);
      still = shared.next == seen ? still + 1 : 0;
      seen = shared.next;
      if (still > kHangSeconds * 100) ::kill(process, SIGKILL);
    }
    if (shared.next >= flips.count) return;
    shared.outcomes[shared.next] = still > kHangSeconds * 100 ? hung : crashed;
    const auto [region, bit] = flips.at(shared.next);
    flip(region->file, bit);  // as it was
    ++shared.next;
  }
}

int run(const std::filesystem::path& original, uint64_t step) {
  const char* memory = "/dev/shm";
  std::string folder = std::filesystem::exists(memory) ? memory : std::filesystem::temp_directory_path().string();
  folder += "/whit-flips-XXXXXX";
  if (!::mkdtemp(folder.data())) throw Error(ErrorKind::io, "no temporary folder", folder);
  const std::filesystem::path path = std::filesystem::path(folder) / original.filename();
  std::filesystem::copy(original, path, std::filesystem::copy_options::recursive);

  const ModelPtr model = load_model(path);
  const std::string integrity = model->integrity;
  const Said wanted = answer(model);
  Flips flips{regions_of(path, step), {}, 0};
  for (const Region& region : flips.regions) {
    flips.first.push_back(flips.count);
    flips.count += region.flips();
  }
  void* map = ::mmap(nullptr, sizeof(Shared) + flips.count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) throw Error(ErrorKind::io, "no shared memory", folder);
  Shared& shared = *static_cast<Shared*>(map);
  watch(path, flips, wanted, shared);

  std::map<std::string, std::array<uint64_t, kOutcomes>> counts;
  nlohmann::ordered_json worst = nlohmann::ordered_json::array();
  bool fine = true;
  for (uint64_t i = 0; i < flips.count; ++i) {
    const auto [region, bit] = flips.at(i);
    const uint8_t outcome = shared.outcomes[i];
    ++counts[region->name][outcome];
    const bool broken = outcome == crashed || outcome == hung, silent = integrity == "ok" && outcome >= same;
    fine = fine && !broken && !silent;
    if ((broken || silent) && worst.size() < 20)
      worst.push_back({{"file", region->file.filename().string()}, {"bit", bit}, {"outcome", kNames[outcome]}});
  }
  nlohmann::ordered_json report = {{"integrity", integrity}, {"answer", wanted.text}, {"outcomes", kNames}};
  for (const auto& [region, numbers] : counts) report["regions"][region] = numbers;
  report["worst"] = worst;
  fmt::print("{}\n", report.dump());
  std::filesystem::remove_all(folder);
  return fine ? 0 : 1;
}

}  // namespace
}  // namespace whit

int main(int count, char** words) {
  if (count < 2 || count > 3) {
    fmt::print(stderr, "flips MODEL [STEP]\n");
    return 2;
  }
  try {
    return whit::run(words[1], count == 3 ? std::max(1ul, std::strtoul(words[2], nullptr, 10)) : 97);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 3;
  }
}
