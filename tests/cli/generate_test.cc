#include "cli/generate.h"

#include <gtest/gtest.h>

#include "evaluate/fake_scorer.h"

namespace whit {
namespace {

TEST(StopFilter, HoldsBackWhatMayBecomeAStop) {
  StopFilter filter({"<end>", "STOP"});
  EXPECT_EQ(filter.push("hello <"), "hello ");
  EXPECT_EQ(filter.push("en"), "");
  EXPECT_EQ(filter.push("d of"), "<end of");
  EXPECT_EQ(filter.push(" ST"), " ");
  EXPECT_EQ(filter.push("OP more"), "");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.push("x"), "");
  EXPECT_EQ(filter.finish(), "");
}

// Special tokens are looked through, and not shown.
TEST(StopFilter, SeesWhatIsNotShown) {
  StopFilter filter({"<|im_end|>", "bye</s>"});
  EXPECT_EQ(filter.push("hello"), "hello");
  EXPECT_EQ(filter.push("<|tool|>", false), "");
  EXPECT_EQ(filter.push(" <|im"), " ");
  EXPECT_EQ(filter.push("<|x|>", false), "<|im");
  EXPECT_EQ(filter.push(" good bye"), " good ");
  EXPECT_FALSE(filter.stopped());
  StopFilter across = filter;
  EXPECT_EQ(across.push("</s>", false), "");
  EXPECT_TRUE(across.stopped());
  EXPECT_EQ(across.finish(), "");
  EXPECT_EQ(filter.push("</", false), "");
  EXPECT_EQ(filter.finish(), "bye");
  StopFilter alone({"<|im_end|>"});
  EXPECT_EQ(alone.push("<|im_end|>", false), "");
  EXPECT_TRUE(alone.stopped());
}

TEST(StopFilter, ShowsTheRestAtTheEnd) {
  StopFilter filter({"abc", ""});
  EXPECT_EQ(filter.push("xab"), "x");
  EXPECT_FALSE(filter.stopped());
  EXPECT_EQ(filter.finish(), "ab");
}

// The next id is always the last one plus 1.
FakeScorer counting(uint64_t vocabulary) {
  return FakeScorer(vocabulary, [=](int32_t id, size_t) {
    std::vector<float> row(vocabulary);
    row[static_cast<size_t>(id + 1) % vocabulary] = 5;
    return row;
  });
}

Answer count_from(int32_t first, size_t context, const GenerateOptions& options) {
  const FakeScorer scorer = counting(100);
  const auto session = scorer.open(context);
  SamplerOptions greedy;
  greedy.temperature = 0;
  Sampler sampler(greedy);
  std::vector<int32_t> history;
  const Answer answer = generate(*session, context, std::span(&first, 1), history, sampler, nullptr, options, {});
  EXPECT_EQ(history.size(), session->position());
  return answer;
}

TEST(Generate, StopsAtTheLimit) {
  GenerateOptions options;
  options.limit = 3;
  const Answer answer = count_from(10, 50, options);
  EXPECT_EQ(answer.ids, (std::vector<int32_t>{11, 12, 13}));
  EXPECT_EQ(answer.reason, EndReason::length);
}

TEST(Generate, StopsAtAnEndToken) {
  GenerateOptions options;
  options.ends = {13, 12};
  const Answer answer = count_from(10, 50, options);
  EXPECT_EQ(answer.ids, (std::vector<int32_t>{11}));
  EXPECT_EQ(answer.reason, EndReason::end_token);
}

TEST(Generate, StopsWhenTheContextIsFull) {
  GenerateOptions options;
  options.limit = 0;
  const Answer answer = count_from(10, 4, options);
  // Four positions hold 10 11 12 13; the row of the last one still gives 14.
  EXPECT_EQ(answer.ids, (std::vector<int32_t>{11, 12, 13, 14}));
  EXPECT_EQ(answer.reason, EndReason::context_full);
}

}  // namespace
}  // namespace whit
