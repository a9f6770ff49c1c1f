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
  Json json;
  std::vector<std::pair<std::string, Matrix>> arrays;
};
class Cache {
 public:
  explicit Cache(std::filesystem::path folder = {});
  std::optional<CacheEntry> load(const std::string& key) const;
  void store(const std::string& key, const CacheEntry& entry) const;
  void remove(const std::string& key) const;
  const std::filesystem::path& folder() const noexcept { return folder_; }
 private:
  std::filesystem::path folder_;
};
}
