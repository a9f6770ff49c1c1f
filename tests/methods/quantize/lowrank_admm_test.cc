#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"
#include "format/lowrank_sign.h"
#include "methods/units.h"

namespace whit {
namespace {

using tests::make_unit;
using tests::trace_error;
using tests::unpacked;

StageReport factorize(TensorState& state, const Json& options, uint64_t seed = 0) {
  ThreadPool pool(1);
  return make_quantizer("lowrank_admm", options)->quantize(state, {pool, seed});
}

double weighted_error(const TensorState& state) {  // sum over columns of mean square of the input times squared error
  const Matrix back = unpacked(*state.packed);
  double sum = 0;
  for (size_t i = 0; i < back.rows; ++i)
    for (size_t j = 0; j < back.cols; ++j)
      sum += state.statistics->gram.row(j)[j] * std::pow(double{back.row(i)[j]} - state.weights.row(i)[j], 2);
  return sum;
}

double plain_error(const TensorState& state) {
  const Matrix back = unpacked(*state.packed);
  double sum = 0;
  for (size_t k = 0; k < back.data.size(); ++k) sum += std::pow(double{back.data[k]} - state.weights.data[k], 2);
  return sum;
}

double size_of(const Matrix& m) {
  double sum = 0;
  for (const float x : m.data) sum += double{x} * x;
  return sum;
}

// A matrix that has the form is found: rank-one magnitudes times signs of rank 1, stored at rank 8.
TEST(LowrankAdmm, FindsWhatHasTheForm) {
  TensorState state = make_unit(24, 40, make_format("lowrank_sign", {{"rank", 8}}), 1, false);
  Rng rng(2);
  std::vector<double> left, right;
  for (size_t i = 0; i < 24; ++i) left.push_back((rng.uniform() + 0.5) * (rng.below(2) ? 1 : -1));
  for (size_t j = 0; j < 40; ++j) right.push_back((rng.uniform() + 0.5) * (rng.below(2) ? 1 : -1));
  for (size_t i = 0; i < 24; ++i)
    for (size_t j = 0; j < 40; ++j) state.weights.row(i)[j] = static_cast<float>(1e-4 * left[i] * right[j]);
  EXPECT_LT(factorize(state, Json::object()).relative_loss, 1e-5);  // halves round by 2^-11 at most
}

TEST(LowrankAdmm, ErrorFallsWithRankAndWithIterations) {
  double before = 1;
  for (const int rank : {8, 16, 32, 64}) {
    TensorState state = make_unit(48, 43, make_format("lowrank_sign", {{"rank", rank}}), 3);
    const StageReport report = factorize(state, Json::object());
    EXPECT_LT(report.relative_loss, before) << rank;
    before = report.relative_loss;
    const double trace = trace_error(unpacked(*state.packed), state.weights, state.statistics->gram);
    EXPECT_NEAR(report.loss, trace, 1e-4 * trace);
  }
  TensorState few = make_unit(48, 43, make_format("lowrank_sign", {{"rank", 32}}), 3), many = few;
  factorize(few, {{"iterations", 2}});
  factorize(many, {{"iterations", 60}});
  EXPECT_LT(weighted_error(many), weighted_error(few));
}

TEST(LowrankAdmm, WeightsPayInTheWeightedError) {
  for (const uint64_t seed : {4, 5, 6}) {
    TensorState weighted = make_unit(40, 172, make_format("lowrank_sign", {{"rank", 32}}), seed), plain = weighted;
    // Inputs of very different size, as real ones are.
    auto statistics = std::make_shared<UnitStatistics>(*weighted.statistics);
    for (size_t i = 0; i < 172; ++i)
      for (size_t j = 0; j < 172; ++j)
        statistics->gram.row(i)[j] *= (i % 8 == 0 ? 6.0f : 1.0f) * (j % 8 == 0 ? 6.0f : 1.0f);
    weighted.statistics = plain.statistics = statistics;
    factorize(weighted, {{"importance", "activations"}}, seed);
    factorize(plain, {{"importance", "uniform"}}, seed);
    EXPECT_LT(weighted_error(weighted), weighted_error(plain));
    EXPECT_GT(plain_error(weighted), plain_error(plain));
  }
}

// Signs of the truncated singular vectors with rank-one magnitudes (the start of LittleBit), here by subspace
// iteration.
double error_of_svd_signs(const Matrix& w, size_t rank) {
  const size_t n = w.rows, m = w.cols;
  Rng rng(7);
  std::vector<std::vector<double>> v(rank, std::vector<double>(m)), u(rank, std::vector<double>(n));
  for (auto& x : v)
    for (double& e : x) e = rng.normal();
  const auto orthonormal = [](std::vector<std::vector<double>>& basis) {
    for (size_t k = 0; k < basis.size(); ++k) {
      for (size_t p = 0; p < k; ++p) {
        double dot = 0;
        for (size_t i = 0; i < basis[k].size(); ++i) dot += basis[k][i] * basis[p][i];
        for (size_t i = 0; i < basis[k].size(); ++i) basis[k][i] -= dot * basis[p][i];
      }
      double norm = 0;
      for (const double e : basis[k]) norm += e * e;
      for (double& e : basis[k]) e /= std::sqrt(norm);
    }
  };
  for (int round = 0; round < 200; ++round) {
    for (size_t k = 0; k < rank; ++k)
      for (size_t i = 0; i < n; ++i) {
        u[k][i] = 0;
        for (size_t j = 0; j < m; ++j) u[k][i] += double{w.row(i)[j]} * v[k][j];
      }
    orthonormal(u);
    for (size_t k = 0; k < rank; ++k)
      for (size_t j = 0; j < m; ++j) {
        v[k][j] = 0;
        for (size_t i = 0; i < n; ++i) v[k][j] += double{w.row(i)[j]} * u[k][i];
      }
    if (round + 1 < 200) orthonormal(v);
  }
  // v now holds sigma v: split sqrt(sigma) to either side.
  for (size_t k = 0; k < rank; ++k) {
    double sigma = 0;
    for (const double e : v[k]) sigma += e * e;
    sigma = std::sqrt(sigma);
    for (double& e : u[k]) e *= std::sqrt(sigma);
    for (double& e : v[k]) e /= std::sqrt(sigma);
  }
  const auto rank_one = [rank](const std::vector<std::vector<double>>& x, std::vector<double>& by_entry,
                               std::vector<double>& by_rank) {
    by_entry.assign(x[0].size(), 1);
    by_rank.assign(rank, 0);
    for (int i = 0; i < 50; ++i) {
      double norm = 0;
      for (size_t k = 0; k < rank; ++k) {
        by_rank[k] = 0;
        for (size_t e = 0; e < by_entry.size(); ++e) by_rank[k] += std::fabs(x[k][e]) * by_entry[e];
        norm += by_rank[k] * by_rank[k];
      }
      for (double& r : by_rank) r /= std::sqrt(norm);
      for (size_t e = 0; e < by_entry.size(); ++e) {
        by_entry[e] = 0;
        for (size_t k = 0; k < rank; ++k) by_entry[e] += std::fabs(x[k][e]) * by_rank[k];
      }
    }
  };
  std::vector<double> h, g, lu, lv;
  rank_one(u, h, lu);
  rank_one(v, g, lv);
  double error = 0;
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < m; ++j) {
      double sum = 0;
      for (size_t k = 0; k < rank; ++k) sum += (u[k][i] >= 0) == (v[k][j] >= 0) ? lu[k] * lv[k] : -lu[k] * lv[k];
      error += std::pow(h[i] * g[j] * sum - w.row(i)[j], 2);
    }
  return error;
}

TEST(LowrankAdmm, BeatsTheSignsOfSingularVectors) {
  for (const size_t rank : {16, 24}) {
    TensorState state = make_unit(40, 56, make_format("lowrank_sign", {{"rank", rank}}), 8, false);
    factorize(state, Json::object());
    EXPECT_LT(plain_error(state), 0.8 * error_of_svd_signs(state.weights, rank)) << rank;
  }
}

TEST(LowrankAdmm, LeavesLatentsOfUnitSizeBehindItsSigns) {
  TensorState state = make_unit(9, 172, make_format("lowrank_sign", {{"bits", 1.0}}), 9);
  factorize(state, Json::object());
  const LowrankSignFactors f = as_lowrank_sign(state.plan)->unpack_factors(*state.packed);
  ASSERT_EQ(state.latents.size(), 2u);
  const Matrix &u = state.latents[0], &v = state.latents[1];
  ASSERT_EQ(u.data.size(), f.u.size());
  ASSERT_EQ(v.data.size(), f.v.size());
  size_t one = 0;
  for (size_t i = 0; i < u.rows; ++i) {
    double sum = 0;
    for (size_t k = 0; k < u.cols; ++k) {
      sum += std::fabs(u.row(i)[k]);
      EXPECT_EQ(std::signbit(u.row(i)[k]), f.u[i * u.cols + k] < 0);
      one += std::fabs(u.row(i)[k]) == 1;
    }
    EXPECT_NEAR(sum / static_cast<double>(u.cols), 1, 1e-4);
  }
  EXPECT_LT(one, u.data.size() / 4) << "magnitudes say how near a sign is to flipping";
  for (size_t j = 0; j < v.cols; ++j) {
    double sum = 0;
    for (size_t k = 0; k < v.rows; ++k) sum += std::fabs(v.row(k)[j]);
    EXPECT_NEAR(sum / static_cast<double>(v.rows), 1, 1e-4);
  }
}

TEST(LowrankAdmm, ZerosAndExtremes) {
  for (const double size : {0.0, 1e-12, 1e4}) {
    TensorState state = make_unit(12, 20, make_format("lowrank_sign", {{"rank", 16}}), 10);
    for (size_t i = 0; i < 12; ++i)
      for (size_t j = 0; j < 20; ++j) {
        float& w = state.weights.row(i)[j];
        w = i == 3 || j == 5 ? 0.0f : static_cast<float>(w * size);  // a row and a column of zeros
      }
    const StageReport report = factorize(state, Json::object());
    const Matrix back = unpacked(*state.packed);
    for (size_t j = 0; j < 20; ++j) EXPECT_EQ(back.row(3)[j], 0.0f);
    for (size_t i = 0; i < 12; ++i) EXPECT_EQ(back.row(i)[5], 0.0f);
    if (size > 0) EXPECT_LT(report.relative_loss, 0.5) << size;
    EXPECT_GE(size_of(back), 0.0);
  }
}

TEST(LowrankAdmm, RefusesWhatItCannotDo) {
  const auto kind = [](TensorState state, const Json& options) {
    try {
      factorize(state, options);
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("blk.0.test.weight"), std::string::npos);
      return error.kind();
    }
    return ErrorKind::internal;
  };
  const FormatPtr format = make_format("lowrank_sign");
  EXPECT_EQ(kind(make_unit(8, 32, make_format("q4_0"), 11), Json::object()), ErrorKind::usage);
  EXPECT_EQ(kind(make_unit(8, 32, format, 11, false), {{"importance", "activations"}}), ErrorKind::usage);
  TensorState masked = make_unit(8, 32, format, 11);
  masked.mask.assign(8 * 32, 1);
  EXPECT_EQ(kind(masked, Json::object()), ErrorKind::usage);
}

}  // namespace
}  // namespace whit
