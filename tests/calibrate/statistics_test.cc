#include "calibrate/statistics.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/file.h"
#include "base/hash.h"
#include "base/rng.h"
#include "calibrate/cache.h"

namespace whit {
namespace {

Matrix random_matrix(size_t rows, size_t cols, uint64_t seed, double mean = 0) {
  Rng rng(seed);
  Matrix m(rows, cols);
  for (float& v : m.data) v = static_cast<float>(mean + rng.normal());
  return m;
}

class Folder : public ::testing::Test {
 protected:
  std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("whit-cache-test-" + std::to_string(::getpid()) + "-" +
                                                ::testing::UnitTest::GetInstance()->current_test_info()->name());
  Cache cache{folder};
  void SetUp() override { set_torch_threads(2); }
  void TearDown() override { std::filesystem::remove_all(folder); }
};
using CacheTest = Folder;

TEST(Grams, MeanOfOuterProductsByKind) {
  set_torch_threads(2);
  const size_t n = 7, tokens = 10000, piece = 512;
  const Matrix x = random_matrix(tokens, n, 1, 3.0);  // a mean far from zero: sums grow with the text
  std::vector<double> expected(n * n, 0.0);
  for (size_t t = 0; t < tokens; ++t)
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j)
        expected[i * n + j] += static_cast<double>(x.row(t)[i]) * x.row(t)[j] / static_cast<double>(tokens);
  Grams grams;
  const InputHook hook = grams.hook();
  hook("ffn_down", random_matrix(5, 4, 3));
  for (size_t first = 0; first < tokens; first += piece)
    hook("attn_qkv", MatrixView(x.row(first), std::min(piece, tokens - first), n, n));
  const UnitStatistics mean = grams.mean("attn_qkv");
  EXPECT_EQ(mean.tokens, tokens);
  ASSERT_EQ(mean.gram.cols, n);
  for (size_t i = 0; i < n * n; ++i) ASSERT_NEAR(mean.gram.data[i], expected[i], 1e-5 * expected[i]);
  EXPECT_EQ(grams.mean("ffn_down").gram.cols, 4u);
  EXPECT_THROW(grams.mean("ffn_down"), std::out_of_range);  // taken out
}

const std::string kKey = "0123456789abcdef0123456789abcdef";

TEST_F(CacheTest, EntriesComeBackAndCanBeRemoved) {
  EXPECT_FALSE(cache.load(kKey).has_value());
  cache.store(kKey, {{{"a", 1}}, {{"first", random_matrix(2, 3, 1)}, {"empty", Matrix()}}});
  const auto entry = cache.load(kKey);
  ASSERT_TRUE(entry.has_value());
  EXPECT_EQ(entry->json.at("a"), 1);
  ASSERT_EQ(entry->arrays.size(), 2u);
  EXPECT_EQ(entry->arrays[0].first, "first");
  EXPECT_EQ(entry->arrays[0].second.rows, 2u);
  EXPECT_EQ(entry->arrays[0].second.data, random_matrix(2, 3, 1).data);
  EXPECT_EQ(entry->arrays[1].second.data.size(), 0u);
  cache.remove(kKey);
  cache.remove(kKey);
  EXPECT_FALSE(cache.load(kKey).has_value());
  EXPECT_THROW(cache.load("../outside"), Error);
  EXPECT_THROW(cache.load(""), Error);
}

TEST_F(CacheTest, EveryDamagedByteAndEveryCutIsAnError) {
  cache.store(kKey, {{{"a", 1}}, {{"x", random_matrix(1, 3, 1)}}});
  const std::string whole = read_file(cache.path(kKey));
  const auto expect_integrity = [&](const std::string& content, size_t at) {
    std::ofstream(cache.path(kKey), std::ios::binary) << content;  // write_file would sync to disk each time
    try {
      cache.load(kKey);
      ADD_FAILURE() << "byte " << at;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::integrity) << at;
      EXPECT_EQ(error.where(), cache.path(kKey).string());
    }
  };
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    expect_integrity(changed, at);
    expect_integrity(whole.substr(0, at), at);
  }
  expect_integrity(whole + "x", whole.size());
  std::ofstream(cache.path(kKey), std::ios::binary) << whole;
  EXPECT_EQ(cache.load(kKey)->json.at("a"), 1);
}

// A checksum is no signature: whoever forges one must still not be able to make us read past the file.
TEST_F(CacheTest, ForgedSizesAreErrors) {
  cache.store(kKey, {});
  for (const std::string text : {R"({"json":1,"arrays":[["x",4611686018427387904,4]]})",
                                 R"({"json":1,"arrays":[["x",1,1]]})", R"({"json":1,"arrays":[["x",-1,1]]})",
                                 R"({"json":1,"arrays":[[]]})", R"({"arrays":[]})", R"({"json":1})", "{"}) {
    std::string bytes(8, '\0');
    const uint64_t length = text.size();
    std::memcpy(bytes.data(), &length, 8);
    bytes += text;
    const uint64_t checksum = xxh3_64(std::as_bytes(std::span(bytes)));
    bytes.append(reinterpret_cast<const char*>(&checksum), 8);
    std::ofstream(cache.path(kKey), std::ios::binary) << bytes;
    EXPECT_THROW(cache.load(kKey), Error) << text;
  }
}

TEST_F(CacheTest, FolderThatCannotBeMadeIsAnIoError) {
  write_file(folder, "a file", false);
  try {
    cache.store(kKey, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::io);
  }
}

TEST(CacheFolder, FollowsTheEnvironment) {
  std::map<std::string, std::string> before;
  for (const char* name : {"WHIT_CACHE", "XDG_CACHE_HOME", "HOME"}) {
    if (const char* value = std::getenv(name)) before[name] = value;
    ::unsetenv(name);
  }
  EXPECT_THROW(default_cache_folder(), Error);
  ::setenv("HOME", "/h", 1);
  EXPECT_EQ(default_cache_folder(), "/h/.cache/whit");
  ::setenv("XDG_CACHE_HOME", "relative", 1);
  EXPECT_EQ(default_cache_folder(), "/h/.cache/whit");
  ::setenv("XDG_CACHE_HOME", "/x", 1);
  EXPECT_EQ(default_cache_folder(), "/x/whit");
  ::setenv("WHIT_CACHE", "/w", 1);
  EXPECT_EQ(default_cache_folder(), "/w");
  for (const char* name : {"WHIT_CACHE", "XDG_CACHE_HOME", "HOME"}) {
    ::unsetenv(name);
    if (before.contains(name)) ::setenv(name, before[name].c_str(), 1);
  }
}

}  // namespace
}  // namespace whit
