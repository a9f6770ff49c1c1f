// A folder of results that are worth keeping, each under a key that hashes everything it depends on: one file an entry,
// with a checksum, complete or absent. Deleting the folder loses time only.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/options.h"
#include "model/torch/matrix.h"

namespace whit {

struct CacheEntry {
  Json json;                                           // small
  std::vector<std::pair<std::string, Matrix>> arrays;  // in order, with names
};

// $WHIT_CACHE, else $XDG_CACHE_HOME/whit, else ~/.cache/whit. ErrorKind::io when none of the three is set.
std::filesystem::path default_cache_folder();

class Cache {
 public:
  // Empty: the default folder. It is made at the first store().
  explicit Cache(std::filesystem::path folder = {});

  // `key`: a file name of letters, digits and dashes, such as Hasher::hex() + "-fisher".
  // Nothing when there is no such entry. A damaged one is ErrorKind::integrity that names the file: to compute silently
  // anew would hide what else is damaged on that disk.
  std::optional<CacheEntry> load(const std::string& key) const;
  void store(const std::string& key, const CacheEntry& entry) const;  // replaces
  void remove(const std::string& key) const;                          // if it is there
  std::filesystem::path path(const std::string& key) const;
  const std::filesystem::path& folder() const noexcept { return folder_; }

 private:
  std::filesystem::path folder_;
};

}  // namespace whit
