// The reference dumps of Hugging Face's implementation, on every instruction-set level of the machine.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>

#include "base/options.h"
#include "format/safetensors.h"
#include "logits.h"
#include "model/spec/model.h"
#include "reference_models.h"
#include "runtime/runtime.h"

namespace whit {
namespace {

struct Reference {
  std::vector<int32_t> ids, greedy;
  std::vector<float> logits;  // [ids.size(), vocabulary]
  size_t vocabulary = 0;
  double deviation = 0;
};

Reference read_reference(const std::string& folder) {
  Reference reference;
  const SafetensorsFile file = SafetensorsFile::open(folder + "/reference.safetensors");
  const SafetensorsEntry* ids = file.find("input_ids");
  const SafetensorsEntry* logits = file.find("logits");
  EXPECT_NE(ids, nullptr);
  EXPECT_NE(logits, nullptr);
  const size_t width = ids->dtype == "I64" ? 8 : 4;
  for (size_t i = 0; i < ids->data.size(); i += width) {
    int32_t id;
    std::memcpy(&id, ids->data.data() + i, 4);
    reference.ids.push_back(id);
  }
  reference.logits.resize(logits->data.size() / 4);
  std::memcpy(reference.logits.data(), logits->data.data(), logits->data.size());
  reference.vocabulary = logits->shape.back();
  reference.deviation = tests::standard_deviation(reference.logits);
  std::ifstream in(folder + "/reference.json");
  const Json json = Json::parse(in);  // a loop over a part of a temporary would outlive it
  for (const Json& id : json.at("greedy_ids")) reference.greedy.push_back(id.get<int32_t>());
  EXPECT_FALSE(reference.greedy.empty());
  return reference;
}

class Fixtures : public testing::TestWithParam<std::string> {
 protected:
  std::string folder() const { return std::string(WHIT_TESTS_DIR) + "/data/" + GetParam(); }
  ModelPtr model() const { return load_reference_model(GetParam()); }
};

// Feeds the ids in pieces and returns the largest difference of a logit.
double largest_difference(const Scorer& scorer, const Reference& reference, const std::vector<size_t>& pieces) {
  const auto session = scorer.open(reference.ids.size());
  double worst = 0;
  size_t rows = 0, at = 0;
  for (size_t i = 0; at < reference.ids.size(); ++i) {
    const size_t count = std::min(pieces[i % pieces.size()], reference.ids.size() - at);
    session->feed(std::span(reference.ids).subspan(at, count), 0, [&](size_t position, std::span<const float> logits) {
      EXPECT_EQ(position, rows++);
      const double apart = tests::greatest_difference(
          logits, std::span(reference.logits).subspan(position * reference.vocabulary, reference.vocabulary));
      if (!(apart <= worst)) worst = apart;  // NaN too
    });
    at += count;
  }
  EXPECT_EQ(rows, reference.ids.size());
  return worst;
}

TEST_P(Fixtures, LogitsOnEveryLevel) {
  const Reference reference = read_reference(folder());
  const ModelPtr model = this->model();
  for (const std::string& isa : available_isas()) {
    for (const int threads : {1, 2}) {
      ThreadPool pool(threads);
      const auto scorer = make_runtime(model, pool, {isa, ActivationType::fp32});
      for (const auto& pieces : std::vector<std::vector<size_t>>{{1000}, {1}, {7, 1, 3, 20}}) {
        const double worst = largest_difference(*scorer, reference, pieces);
        EXPECT_LT(worst, 2e-4 * reference.deviation) << isa << " pieces of " << pieces[0];
        RecordProperty(isa, std::to_string(worst / reference.deviation));
      }
    }
  }
}

// The reference's greedy_ids begin with its prompt of 8 ids, the first ones of input_ids.
TEST_P(Fixtures, GreedyText) {
  const Reference reference = read_reference(folder());
  ThreadPool pool(2);
  const auto scorer = make_runtime(model(), pool);
  std::vector<int32_t> made(reference.ids.begin(), reference.ids.begin() + 8);
  const std::vector<int32_t> prompt = made;
  const auto session = scorer->open(reference.greedy.size());
  std::span<const int32_t> next = prompt;
  int32_t token = 0;
  while (made.size() < reference.greedy.size()) {
    session->feed(next, session->position() + next.size() - 1, [&](size_t, std::span<const float> logits) {
      token = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    });
    made.push_back(token);
    next = {&token, 1};
  }
  EXPECT_EQ(made, reference.greedy);
}

// Cutting back and going on gives what a fresh session gives.
TEST_P(Fixtures, TruncateAndReset) {
  const Reference reference = read_reference(folder());
  ThreadPool pool(1);
  const auto scorer = make_runtime(model(), pool);
  const auto last_row = [&](ScorerSession& session, std::span<const int32_t> ids) {
    std::vector<float> row;
    session.feed(ids, session.position() + ids.size() - 1,
                 [&](size_t, std::span<const float> logits) { row.assign(logits.begin(), logits.end()); });
    return row;
  };
  const auto session = scorer->open(reference.ids.size());
  const auto straight = last_row(*session, reference.ids);
  session->truncate(5);
  EXPECT_EQ(session->position(), 5u);
  const std::vector<float> again = last_row(*session, std::span(reference.ids).subspan(5));
  for (size_t i = 0; i < again.size(); ++i) ASSERT_NEAR(again[i], straight[i], 2e-4 * reference.deviation);
  session->reset();
  EXPECT_EQ(last_row(*session, reference.ids), straight);
  EXPECT_THROW(session->truncate(reference.ids.size() + 1), Error);
}

INSTANTIATE_TEST_SUITE_P(All, Fixtures, testing::ValuesIn(reference_models()),
                         [](const auto& info) { return info.param; });

TEST(Runtime, RefusesBadCalls) {
  ThreadPool pool(1);
  const auto scorer = make_runtime(load_model(std::string(WHIT_TESTS_DIR) + "/data/llama_gqa"), pool);
  const auto kind = [](auto&& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::internal;
  };
  const RowVisitor ignore = [](size_t, std::span<const float>) {};
  const std::vector<int32_t> good = {1, 2, 3}, negative = {1, -1}, beyond = {1027};
  const auto session = scorer->open(4);
  EXPECT_EQ(kind([&] { session->feed(negative, 0, ignore); }), ErrorKind::input);
  EXPECT_EQ(kind([&] { session->feed(beyond, 0, ignore); }), ErrorKind::input);
  EXPECT_EQ(session->position(), 0u);
  session->feed(good, 3, [](size_t, std::span<const float>) { FAIL() << "no rows were asked for"; });
  EXPECT_EQ(kind([&] { session->feed(good, 0, ignore); }), ErrorKind::usage);
  EXPECT_EQ(session->position(), 3u);
  EXPECT_EQ(kind([&] { scorer->open(0); }), ErrorKind::usage);
  EXPECT_EQ(kind([&] { isa_in_use({"AVX9", ActivationType::fp32}); }), ErrorKind::usage);
}

}  // namespace
}  // namespace whit
