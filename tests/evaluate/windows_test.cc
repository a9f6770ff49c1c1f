#include "evaluate/windows.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace whit {
namespace {

using Ids = std::vector<int32_t>;

TEST(Windows, WithoutBos) {
  const TokenWindows windows = cut_windows({5, 6, 7, 8, 9, 10, 11, 12, 13}, -1, 4, 0);
  EXPECT_EQ(windows.text_tokens, 9u);
  ASSERT_EQ(windows.windows.size(), 2u);
  EXPECT_EQ(windows.windows[0], (Ids{5, 6, 7, 8}));
  EXPECT_EQ(windows.windows[1], (Ids{9, 10, 11, 12}));
}

// BOS stands before the text and then in the place of every window's first id, as in llama.cpp.
TEST(Windows, WithBos) {
  const TokenWindows windows = cut_windows({5, 6, 7, 8, 9, 10, 11}, 1, 4, 0);
  EXPECT_EQ(windows.text_tokens, 8u);
  ASSERT_EQ(windows.windows.size(), 2u);
  EXPECT_EQ(windows.windows[0], (Ids{1, 5, 6, 7}));
  EXPECT_EQ(windows.windows[1], (Ids{1, 9, 10, 11}));
}

TEST(Windows, Limit) { EXPECT_EQ(cut_windows(Ids(100, 3), -1, 4, 7).windows.size(), 7u); }

TEST(Windows, TooShort) {
  try {
    cut_windows({5, 6, 7}, -1, 4, 0);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    EXPECT_EQ(error.found(), "3 tokens, one window has 4");
  }
  EXPECT_THROW(cut_windows(Ids(100, 3), -1, 3, 0), Error);
}

}  // namespace
}  // namespace whit
