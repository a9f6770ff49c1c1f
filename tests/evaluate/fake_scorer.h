// A model without weights: its logits are a given function of the last id and the position.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/spec/scorer.h"

namespace whit {

class FakeScorer final : public Scorer {
 public:
  using Logits = std::function<std::vector<float>(int32_t id, size_t position)>;
  FakeScorer(uint64_t vocabulary, Logits logits) : logits_(std::move(logits)) { spec_.vocabulary = vocabulary; }

  const ModelSpec& spec() const noexcept override { return spec_; }
  std::string executor() const override { return "fake"; }
  std::string activations() const override { return "fp32"; }
  std::unique_ptr<ScorerSession> open(size_t context) const override { return std::make_unique<Session>(*this, context); }
  mutable size_t fed = 0;       // ids over all sessions
  mutable size_t most_fed = 0;  // at once

 private:
  class Session final : public ScorerSession {
   public:
    Session(const FakeScorer& scorer, size_t context) : scorer_(scorer), context_(context) {}
    void feed(std::span<const int32_t> ids, size_t first_row, const RowVisitor& visitor) override {
      if (position_ + ids.size() > context_) throw Error(ErrorKind::usage, "the context would overflow");
      scorer_.fed += ids.size();
      scorer_.most_fed = std::max(scorer_.most_fed, ids.size());
      for (const int32_t id : ids) {
        if (position_ >= first_row) visitor(position_, scorer_.logits_(id, position_));
        ++position_;
      }
    }
    size_t position() const noexcept override { return position_; }
    void reset() noexcept override { position_ = 0; }
    void truncate(size_t position) override { position_ = position; }

   private:
    const FakeScorer& scorer_;
    size_t context_, position_ = 0;
  };
  ModelSpec spec_;
  Logits logits_;
};

}  // namespace whit
