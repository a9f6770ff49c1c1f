// Whole models against what Hugging Face transformers computed (tests/data/llama_*).
#include "model/torch/executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "base/options.h"
#include "format/safetensors.h"
#include "logits.h"
#include "reference_models.h"

namespace whit {
namespace {

using tests::greatest_difference;
using tests::standard_deviation;

struct Reference {
  ModelPtr model;
  SafetensorsFile tensors;
  Json json;
  std::vector<int32_t> ids;

  explicit Reference(const std::string& name) {
    const std::filesystem::path folder = std::filesystem::path(WHIT_TESTS_DIR) / "data" / name;
    model = load_reference_model(name);
    tensors = SafetensorsFile::open(folder / "reference.safetensors");
    json = Json::parse(read_file(folder / "reference.json"));
    const auto* entry = tensors.find("input_ids");
    std::vector<int64_t> wide(entry->data.size() / 8);
    std::memcpy(wide.data(), entry->data.data(), entry->data.size());
    ids.assign(wide.begin(), wide.end());
  }
  std::vector<float> floats(const std::string& name) const {
    const auto* entry = tensors.find(name);
    if (!entry) return {};
    std::vector<float> values(entry->data.size() / 4);
    std::memcpy(values.data(), entry->data.data(), entry->data.size());
    return values;
  }
};

class Fixtures : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { set_torch_threads(2); }
};

std::vector<float> all_logits(const Scorer& scorer, std::span<const int32_t> ids, size_t piece) {
  std::vector<float> rows;
  const auto session = scorer.open(ids.size());
  size_t next = 0;
  for (size_t begin = 0; begin < ids.size(); begin += piece)
    session->feed(ids.subspan(begin, std::min(piece, ids.size() - begin)), 0,
                  [&](size_t position, std::span<const float> logits) {
                    EXPECT_EQ(position, next++);
                    rows.insert(rows.end(), logits.begin(), logits.end());
                  });
  EXPECT_EQ(next, ids.size());
  return rows;
}

TEST_P(Fixtures, LogitsAgree) {
  const Reference reference(GetParam());
  const std::vector<float> expected = reference.floats("logits");
  const double tolerance = 2e-4 * standard_deviation(expected);
  for (const bool resident : {true, false}) {
    const auto scorer = make_torch_scorer(reference.model, resident);
    for (const size_t piece : resident ? std::vector<size_t>{reference.ids.size(), 1, 7} : std::vector<size_t>{20}) {
      const std::vector<float> logits = all_logits(*scorer, reference.ids, piece);
      ASSERT_EQ(logits.size(), expected.size());
      EXPECT_LT(greatest_difference(logits, expected), tolerance) << "in pieces of " << piece;
    }
  }
}

TEST_P(Fixtures, HiddenStatesAgree) {
  const Reference reference(GetParam());
  const std::vector<Matrix> states = torch_hidden_states(*reference.model, reference.ids);
  ASSERT_EQ(states.size(), reference.model->spec.layers + 1);
  for (size_t layer = 0; layer < states.size(); ++layer) {
    const std::vector<float> expected = reference.floats("hidden_" + std::to_string(layer));
    ASSERT_EQ(states[layer].data.size(), expected.size()) << "hidden_" << layer;
    EXPECT_LT(greatest_difference(states[layer].data, expected), 2e-4 * standard_deviation(expected))
        << "hidden_" << layer;
  }
}

TEST_P(Fixtures, GreedyContinuationAgrees) {
  const Reference reference(GetParam());
  const std::vector<int32_t> expected = reference.json.at("greedy_ids").get<std::vector<int32_t>>();
  const auto scorer = make_torch_scorer(reference.model);
  // The ids begin with part of the prompt: the longest common start is fed, the rest must be generated.
  size_t prompt = 0;
  while (prompt < expected.size() && expected[prompt] == reference.ids[prompt]) ++prompt;
  ASSERT_GT(prompt, 0u);
  ASSERT_LT(prompt, expected.size());
  std::vector<int32_t> ids(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(prompt));
  const auto session = scorer->open(expected.size());
  std::vector<int32_t> fresh = ids;
  while (ids.size() < expected.size()) {
    session->feed(fresh, session->position() + fresh.size() - 1, [&](size_t, std::span<const float> logits) {
      fresh = {static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin())};
    });
    ids.push_back(fresh[0]);
  }
  EXPECT_EQ(ids, expected);
}

TEST_P(Fixtures, SessionsCanBeCutBackAndReset) {
  const Reference reference(GetParam());
  const auto scorer = make_torch_scorer(reference.model);
  const auto session = scorer->open(20);
  const auto last_row = [&](std::span<const int32_t> ids) {
    std::vector<float> row;
    session->feed(ids, session->position() + ids.size() - 1,
                  [&](size_t, std::span<const float> logits) { row.assign(logits.begin(), logits.end()); });
    return row;
  };
  const std::span<const int32_t> ids = std::span(reference.ids).first(20);
  const std::vector<float> first = last_row(ids);
  EXPECT_THROW(session->feed(ids.first(1), 0, {}), Error);  // full
  EXPECT_EQ(session->position(), 20u);
  session->truncate(13);
  EXPECT_LT(greatest_difference(last_row(ids.subspan(13)), first), 1e-4);
  session->reset();
  EXPECT_EQ(session->position(), 0u);
  EXPECT_EQ(last_row(ids), first);  // the same bits
  EXPECT_THROW(session->truncate(21), Error);
  session->reset();
  const std::vector<int32_t> outside = {1, -1};
  EXPECT_THROW(session->feed(outside, 2, {}), Error);
  EXPECT_EQ(session->position(), 0u);
  session->feed(ids, 20, [](size_t, std::span<const float>) { ADD_FAILURE() << "no row was asked for"; });
}

INSTANTIATE_TEST_SUITE_P(All, Fixtures, ::testing::ValuesIn(reference_models()));

}  // namespace
}  // namespace whit
