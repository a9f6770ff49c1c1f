#include "base/last_words.h"

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>

#include "base/printable.h"

namespace whit {

// Never freed, so that a handler may walk along at any moment; a free one is used again.
struct Remembered::Entry {
  enum State { unused, changing, map, temporary };
  std::atomic<int> state{changing};
  std::atomic<uintptr_t> begin{0}, end{0};
  char path[4096];
  Entry* next = nullptr;
};

namespace {

using Entry = Remembered::Entry;

std::atomic<Entry*> entries{nullptr};
static_assert(std::atomic<Entry*>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "signal handlers rely on it");

Entry* free_entry() {
  for (Entry* entry = entries.load(); entry; entry = entry->next) {
    int expected = Entry::unused;
    if (entry->state.compare_exchange_strong(expected, Entry::changing)) return entry;
  }
  auto* entry = new Entry;
  entry->next = entries.load();
  while (!entries.compare_exchange_weak(entry->next, entry)) {
  }
  return entry;
}

Entry* add(const std::string& name, std::span<const std::byte> bytes, Entry::State state) {
  if (name.size() >= sizeof(Entry::path)) return nullptr;
  Entry* entry = free_entry();
  std::memcpy(entry->path, name.c_str(), name.size() + 1);
  entry->begin = reinterpret_cast<uintptr_t>(bytes.data());
  entry->end = entry->begin + bytes.size();
  entry->state = state;
  return entry;
}

}  // namespace

Remembered::Remembered(const std::filesystem::path& path, std::span<const std::byte> bytes)
    : entry_(add(printable(path.string()), bytes, Entry::map)) {}

Remembered::Remembered(const std::filesystem::path& temporary)
    : entry_(add(temporary.string(), {}, Entry::temporary)) {}

Remembered::~Remembered() {
  if (entry_) entry_->state = Entry::unused;
}

const char* mapped_file_at(const void* address) noexcept {
  const auto at = reinterpret_cast<uintptr_t>(address);
  for (const Entry* entry = entries.load(); entry; entry = entry->next)
    if (entry->state == Entry::map && at >= entry->begin && at < entry->end) return entry->path;
  return nullptr;
}

void remove_temporaries() noexcept {
  // Folders last: they are empty then.
  for (const Entry* entry = entries.load(); entry; entry = entry->next)
    if (entry->state == Entry::temporary) ::unlink(entry->path);
  for (const Entry* entry = entries.load(); entry; entry = entry->next)
    if (entry->state == Entry::temporary) ::rmdir(entry->path);
}

}  // namespace whit
