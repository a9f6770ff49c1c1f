#include "data/text.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "data/inflate.h"
#include "data/r_database.h"
#include "data_room/fixtures.h"

namespace whit {
namespace {

// A small R database made by this test as R makes it: two vectors of strings, "b" and "a".
const unsigned char kRdx[] = {
#include "data_room/small_rdx.inc"
};
const unsigned char kRdb[] = {
#include "data_room/small_rdb.inc"
};

class Files : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("whit-text-test-" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) + "-" +
               ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path put(const std::string& name, const std::string& bytes) {
    write_file(folder_ / name, bytes, true);
    return folder_ / name;
  }
  std::filesystem::path folder_;
};

ErrorKind kind_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.kind();
  }
  ADD_FAILURE() << "no error";
  return ErrorKind::internal;
}

TEST_F(Files, ReadTextRefusesWhatIsNoText) {
  EXPECT_EQ(read_text(put("good", "some text\nwith ümlauts")), "some text\nwith ümlauts");
  EXPECT_EQ(kind_of([&] { read_text(put("empty", "")); }), ErrorKind::input);
  EXPECT_EQ(kind_of([&] { read_text(put("nul", std::string("ab\0c", 4))); }), ErrorKind::input);
  EXPECT_EQ(kind_of([&] { read_text(folder_ / "absent"); }), ErrorKind::io);
  try {
    read_text(put("broken", "four\xff"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    EXPECT_NE(std::string(error.what()).find("byte 4"), std::string::npos) << error.what();
  }
}

std::string bytes_of(std::span<const unsigned char> bytes) { return {bytes.begin(), bytes.end()}; }

TEST_F(Files, RDatabase) {
  put("Rdata.rdx", bytes_of(kRdx));
  put("Rdata.rdb", bytes_of(kRdb));
  const auto strings = read_r_strings(folder_ / "Rdata.rdx", folder_ / "Rdata.rdb");
  ASSERT_EQ(strings.size(), 2u);
  EXPECT_EQ(strings.at("a"), (std::vector<std::string>{"first", "", "ünd"}));
  EXPECT_EQ(strings.at("b"), (std::vector<std::string>{"second"}));
  EXPECT_EQ(default_calibration_text(folder_), "first\n\nünd\nsecond\n");
}

TEST_F(Files, DamagedRDatabase) {
  const std::string rdx = bytes_of(kRdx), rdb = bytes_of(kRdb);
  put("Rdata.rdb", rdb);
  for (size_t keep = 0; keep + 1 < rdx.size(); keep += 7) {
    put("Rdata.rdx", rdx.substr(0, keep));
    EXPECT_EQ(kind_of([&] { default_calibration_text(folder_); }), ErrorKind::input) << keep;
  }
  put("Rdata.rdx", rdx);
  for (size_t keep = 0; keep + 1 < rdb.size(); keep += 7) {
    put("Rdata.rdb", rdb.substr(0, keep));
    EXPECT_EQ(kind_of([&] { default_calibration_text(folder_); }), ErrorKind::input) << keep;
  }
  std::filesystem::remove(folder_ / "Rdata.rdb");
  EXPECT_EQ(kind_of([&] { default_calibration_text(folder_); }), ErrorKind::io);
  EXPECT_EQ(kind_of([&] { default_judging_text(folder_ / "none.gz"); }), ErrorKind::io);
}

TEST(Inflate, RefusesTooMuch) {
  const auto rdx = std::as_bytes(std::span(kRdx));
  EXPECT_GT(inflate_all(rdx, "x", 1000).size(), 100u);
  EXPECT_THROW(inflate_all(rdx, "x", 10), Error);
}

TEST(Windows, AreDrawnBySeed) {
  const auto tokenizer = make_tokenizer(test::tokenizer_files("llama_gqa"));
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "line " + std::to_string(i) + " of a text\n";
  const std::vector<int32_t> ids = tokenizer->encode(text, false, false);
  const auto a = calibration_windows(*tokenizer, text, 1000, 64, 1),
             again = calibration_windows(*tokenizer, text, 1000, 64, 1),
             b = calibration_windows(*tokenizer, text, 1000, 64, 2);
  ASSERT_EQ(a.windows.size(), 15u);  // 1000 / 64
  EXPECT_EQ(a.windows, again.windows);
  EXPECT_EQ(a.hash, again.hash);
  EXPECT_EQ(a.hash.size(), 32u);
  EXPECT_NE(a.hash, b.hash);
  EXPECT_NE(a.windows, b.windows);
  // Each is a stretch of the text at a multiple of the window, later ones later, none twice.
  size_t from = 0;
  for (const auto& window : a.windows) {
    ASSERT_EQ(window.size(), 64u);
    while (from < ids.size() && !std::equal(window.begin(), window.end(), ids.begin() + static_cast<ptrdiff_t>(from)))
      from += 64;
    ASSERT_LT(from, ids.size());
    from += 64;
  }
  // All windows there are, and one more.
  const uint64_t all = ids.size() / 64 * 64;
  EXPECT_EQ(calibration_windows(*tokenizer, text, all, 64, 9).windows.size(), ids.size() / 64);
  EXPECT_EQ(kind_of([&] { calibration_windows(*tokenizer, text, all + 64, 64, 9); }), ErrorKind::input);
  EXPECT_EQ(kind_of([&] { calibration_windows(*tokenizer, text, 10, 64, 9); }), ErrorKind::usage);
  EXPECT_EQ(kind_of([&] { calibration_windows(*tokenizer, text, 10, 0, 9); }), ErrorKind::usage);
}

TEST(Windows, BeginWithBosWhereTheTokenizerAddsOne) {
  const auto tokenizer = make_tokenizer(test::tokenizer_files("llama2_sentencepiece"));
  const auto drawn = calibration_windows(*tokenizer, std::string(20000, 'x'), 640, 64, 1);
  for (const auto& window : drawn.windows) {
    EXPECT_EQ(window.size(), 64u);
    EXPECT_EQ(window[0], tokenizer->bos());
    EXPECT_NE(window[1], tokenizer->bos());
  }
}

}  // namespace
}  // namespace whit
