#include "calibrate/statistics.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "base/error.h"

namespace whit {
namespace {

// Tokens whose products are summed in float: the relative error of such a sum is at most 4096 eps = 2.4e-4, and of the
// order of sqrt(4096) eps = 4e-6 as errors go.
constexpr uint64_t kChunk = 4096;

}  // namespace

void GramAccumulator::add(MatrixView rows) {
  if (rows.rows == 0) return;
  if (sum_.empty()) {
    sum_.assign(rows.cols * rows.cols, 0.0);
    chunk_ = Matrix(rows.cols, rows.cols);
  }
  WHIT_CHECK(rows.cols == chunk_.cols);
  for (size_t first = 0; first < rows.rows;) {
    const size_t count = std::min<size_t>(rows.rows - first, kChunk - chunk_tokens_);
    add_gram(MatrixView(rows.data + first * rows.stride, count, rows.cols, rows.stride), chunk_);
    chunk_tokens_ += count;
    first += count;
    if (chunk_tokens_ == kChunk) flush();
  }
  tokens_ += rows.rows;
}

void GramAccumulator::flush() {
  for (size_t i = 0; i < sum_.size(); ++i) {
    sum_[i] += static_cast<double>(chunk_.data[i]);
    chunk_.data[i] = 0.0f;
  }
  chunk_tokens_ = 0;
}

InputStatistics GramAccumulator::mean() const {
  InputStatistics result;
  if (tokens_ == 0) return result;
  result.tokens = tokens_;
  result.gram = Matrix(chunk_.rows, chunk_.cols);
  for (size_t i = 0; i < sum_.size(); ++i)
    result.gram.data[i] =
        static_cast<float>((sum_[i] + static_cast<double>(chunk_.data[i])) / static_cast<double>(tokens_));
  return result;
}

InputHook BlockStatistics::hook() {
  return [this](const std::string& kind, MatrixView rows) { units_[kind].add(rows); };
}

std::map<std::string, InputStatistics> BlockStatistics::finish() {
  std::map<std::string, InputStatistics> result;
  while (!units_.empty()) {
    result.emplace(units_.begin()->first, units_.begin()->second.mean());
    units_.erase(units_.begin());
  }
  return result;
}

void save_statistics(const Cache& cache, const std::string& key, const std::map<std::string, InputStatistics>& units) {
  CacheEntry entry{{{"what", "input statistics"}, {"tokens", Json::array()}}, {}};
  for (const auto& [kind, statistics] : units) {
    entry.json["tokens"].push_back(statistics.tokens);
    entry.arrays.emplace_back(kind, statistics.gram);
  }
  cache.store(key, entry);
}

bool load_statistics(const Cache& cache, const std::string& key, std::map<std::string, InputStatistics>& units) {
  std::optional<CacheEntry> entry = cache.load(key);
  if (!entry) return false;
  const auto refuse = [&](const std::string& found) {
    throw Error(ErrorKind::integrity, "an entry of the cache does not hold input statistics", cache.path(key).string(),
                found, "delete it and run again");
  };
  std::map<std::string, InputStatistics> result;
  try {
    if (entry->json.at("what") != "input statistics") refuse(entry->json.at("what").dump());
    const Json& tokens = entry->json.at("tokens");
    if (tokens.size() != entry->arrays.size()) refuse(std::to_string(entry->arrays.size()) + " arrays");
    for (size_t i = 0; i < tokens.size(); ++i) {
      auto& [kind, gram] = entry->arrays[i];
      if (gram.rows != gram.cols) refuse("a matrix that is not square");
      result.emplace(kind, InputStatistics{std::move(gram), tokens[i].get<uint64_t>()});
    }
  } catch (const Json::exception& error) {
    refuse(error.what());
  }
  units = std::move(result);
  return true;
}

}  // namespace whit
