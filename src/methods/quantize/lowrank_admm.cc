// lowrank_admm: finds the factors of lowrank_sign, W ~ diag(h) U diag(l) V^T diag(g) with U, V of +-1. The start is the
// latent binary ADMM of NanoQuant (2602.06694), the scales are fitted afterwards by least squares.
//
// With d_j the root mean square of input j and Wd = W diag(d), split Wd = A B under the wish that A and B are a matrix
// of signs times a rank-one matrix of magnitudes. svid(X) = sign(X) * (best rank-one matrix of |X|) is that wish's
// projection. For t = 1..T, rho = t / T, S_A and S_B the sums of primal and dual:
//   Z = svid(S_A),  X = rows of svid(S_B) normalized,  G = X X^T,  m = mean of G's diagonal
//   A^T = (G + (rho + reg) m I)^-1 (X Wd^T + rho m (2 Z - S_A)^T),   S_A <- A + S_A - Z
// and the same for B with the columns of svid(S_A) normalized. Signs and latents are S_A and S_B diag(1/d). Then some
// rounds: l from the full r x r system (of Wd against the r products u_k v_k^T), h row by row, g column by column, each
// the least-squares optimum of |(W - What) diag(d)|^2 given the others.
//
// Where we differ from the paper: no weights on the output side (they need gradients; the distillation that follows
// sees them); no balancing and averaging of magnitudes, which loses those of the rank: h, l, g are fitted instead (the
// paper has no l); two power iterations instead of five: magnitudes are positive, so the second singular value is a few
// per cent of the first. A normalized row of svid(S_B) is sign(S_B) v / |v| for every row, so only S and two vectors
// are kept, and an embedding goes through in strips of rows.
//
// Needs the mean squares of the inputs (works without). Memory 4 (2 n m + 2 n r) bytes and strips. Time T (4 r n m +
// 4 r^2 (n + m)) + rounds (4 r n m + 2 r^2 (n + m)) operations, all of it Tensor algebra on the device that learns.
#include <algorithm>
#include <cmath>
#include <functional>

#include "base/hash.h"
#include "base/rng.h"
#include "format/lowrank_sign.h"
#include "methods/math/unit_state.h"
#include "methods/registry.h"
#include "model/torch/tensor.h"

namespace whit {
namespace {

constexpr int64_t kStrip = 1024;  // rows that are in work together: element-wise steps stay in the cache
constexpr double kTiny = 1e-30;   // below any sum of squares of a matrix of unit mean square that matters
constexpr double kRidge = 1e-4;   // of the system of l, relative to its mean diagonal: pairs of products may be alike

struct LowrankAdmmOptions {
  int iterations = 60;
  double regularization = 0.03;
  int power_iterations = 2;
  int fit_rounds = 8;
  std::string importance = "auto";
  double damping = 0.01;
  template <class V>
  void visit(V& v) {
    v("iterations", iterations, "steps of the alternating factorization", Range{0, 10000});
    v("regularization", regularization, "added to the systems of a step, relative to their mean diagonal",
      Range{1e-6, 100});
    v("power_iterations", power_iterations, "of the rank-one matrix of magnitudes", Range{1, 100});
    v("fit_rounds", fit_rounds, "rounds of least squares for the scales", Range{1, 100});
    v("importance", importance,
      "what weighs the errors of an input: its root mean square (activations), nothing (uniform), or the former where "
      "statistics were taken (auto)",
      Choices{{"auto", "activations", "uniform"}});
    v("damping", damping, "added to the mean squares of the inputs, relative to their mean", Range{0, 1});
  }
};

Tensor norm(const Tensor& x) { return sqrt(clamp(sum(square(x)), kTiny, 1e38)); }
Tensor row(const Tensor& vector) { return reshape(vector, {1, vector.count()}); }
Tensor column(const Tensor& vector) { return reshape(vector, {vector.count(), 1}); }

// The best rank-one matrix left right^T of |s|; |left| = 1.
struct Magnitudes {
  Tensor left, right;  // [rows, 1], [1, cols]
};

class Factorization {
 public:
  Factorization(const LowrankAdmmOptions& options, const std::string& unit, const Tensor& weights, const Tensor& inputs,
                int64_t rank, uint64_t seed)
      : options_(options),
        unit_(unit),
        w_(weights),
        d_(row(inputs)),
        rows_(w_.size(0)),
        cols_(w_.size(1)),
        rank_(rank) {
    // Each factor starts with the mean square that makes their product as large as the weights.
    double squares = 0;
    strips([&](int64_t begin, int64_t count) { squares += sum(square(weighted(begin, count))).item(); });
    const double size = std::sqrt(std::sqrt(squares / static_cast<double>(rows_ * cols_ * rank_)));
    a_ = random(rows_, rank_, size, seed);
    b_ = random(rank_, cols_, size, seed + 1);
    identity_ = identity(rank_);
  }

  void iterate() {
    Magnitudes of_a = magnitudes(a_), of_b = magnitudes(b_);
    for (int t = 1; t <= options_.iterations; ++t) {
      const double rho = static_cast<double>(t) / options_.iterations;
      const Tensor x = sign_ste(b_) * (of_b.right / norm(of_b.right));
      Tensor system = matmul(x, transpose(x)), mean_diagonal = mean(diagonal(system));
      Tensor inverse = inverse_of(system, mean_diagonal, rho);
      strips([&](int64_t begin, int64_t count) {
        Tensor s = narrow(a_, 0, begin, count);
        const Tensor z = sign_ste(s) * (narrow(of_a.left, 0, begin, count) * of_a.right);
        const Tensor wanted = matmul(weighted(begin, count), transpose(x)) + (z * 2.0 - s) * (mean_diagonal * rho);
        s.assign(matmul(wanted, inverse) + (s - z));
      });
      of_a = magnitudes(a_);

      Tensor products;  // of the normalized columns of svid(S_A) with the weights
      system = mean_diagonal = Tensor();
      const Tensor left = of_a.left / norm(of_a.left);
      strips([&](int64_t begin, int64_t count) {
        const Tensor y = transpose(sign_ste(narrow(a_, 0, begin, count)) * narrow(left, 0, begin, count));
        add(system, matmul(y, transpose(y)));
        add(products, matmul(y, weighted(begin, count)));
      });
      mean_diagonal = mean(diagonal(system));
      inverse = inverse_of(system, mean_diagonal, rho);
      const Tensor z = sign_ste(b_) * (of_b.left * of_b.right);
      b_ = matmul(inverse, products + (z * 2.0 - b_) * (mean_diagonal * rho)) + (b_ - z);
      of_b = magnitudes(b_);
    }
  }

  // h, l and g for the signs of a and b; g still weighted by the inputs.
  void fit() {
    h_ = Tensor::full({rows_, 1}, 1);
    g_ = d_;
    const Tensor signs_b = sign_ste(b_);
    for (int round = 0; round < options_.fit_rounds; ++round) {
      const Tensor bg = signs_b * g_;
      Tensor overlap, products;
      strips([&](int64_t begin, int64_t count) {
        const Tensor ah = transpose(sign_ste(narrow(a_, 0, begin, count)) * narrow(h_, 0, begin, count));
        add(overlap, matmul(ah, transpose(ah)));
        add(products, matmul(ah, weighted(begin, count)));
      });
      const Tensor system = overlap * matmul(bg, transpose(bg));
      l_ = solve(system + identity_ * (mean(diagonal(system)) * kRidge), column(sum(products * bg, 1, false)), true);
      const Tensor lb = bg * l_;
      Tensor along, squares;  // of each column of the product, with the weights and with itself
      strips([&](int64_t begin, int64_t count) {
        const Tensor w = weighted(begin, count), p = matmul(sign_ste(narrow(a_, 0, begin, count)), lb);
        const Tensor h = sum(w * p, 1, true) / clamp(sum(square(p), 1, true), kTiny, 1e38);
        narrow(h_, 0, begin, count).assign(h);
        const Tensor hp = p * h;
        add(along, sum(w * hp, 0, true));
        add(squares, sum(square(hp), 0, true));
      });
      g_ = g_ * (along / clamp(squares, kTiny, 1e38));
    }
  }

  // Latents of mean magnitude 1 over a row of U and a column of V^T, and the scales; `scale` is that of the weights.
  void take(double scale, LowrankSignFactors& factors) {
    w_ = Tensor();
    strips([&](int64_t begin, int64_t count) {
      Tensor s = narrow(a_, 0, begin, count);
      s.assign(s / clamp(mean(abs(s), 1, true), kTiny, 1e38));
    });
    b_ = b_ / clamp(mean(abs(b_), 0, true), kTiny, 1e38);  // divides by d too
    factors.u = a_.values();
    a_ = Tensor();
    factors.v = b_.values();
    factors.h = h_.values();
    factors.l = (l_ * scale).values();
    factors.g = (g_ / d_).values();
  }

 private:
  void strips(const std::function<void(int64_t begin, int64_t count)>& body) const {
    for (int64_t begin = 0; begin < rows_; begin += kStrip) body(begin, std::min(kStrip, rows_ - begin));
  }
  Tensor weighted(int64_t begin, int64_t count) const { return narrow(w_, 0, begin, count) * d_; }
  static void add(Tensor& sum, const Tensor& part) { sum = sum ? sum + part : part; }

  static Tensor random(int64_t rows, int64_t cols, double size, uint64_t seed) {
    Rng rng(seed);
    Matrix values(static_cast<size_t>(rows), static_cast<size_t>(cols));
    for (float& value : values.data) value = static_cast<float>(size * rng.normal());
    return Tensor::from(values);
  }

  Magnitudes magnitudes(const Tensor& s) const {
    const int64_t rows = s.size(0);
    Magnitudes m;
    for (int i = -1; i < options_.power_iterations; ++i) {
      Tensor right;
      std::vector<Tensor> left;
      for (int64_t begin = 0; begin < rows; begin += kStrip) {
        const Tensor size = abs(narrow(s, 0, begin, std::min(kStrip, rows - begin)));
        left.push_back(i < 0 ? Tensor::full({size.size(0), 1}, 1) : matmul(size, transpose(m.right)));
        add(right, matmul(transpose(left.back()), size));
      }
      m.left = left.size() == 1 ? left[0] : concat(left, 0);
      const Tensor length = norm(m.left);
      m.left = m.left / length;
      m.right = right / length;
    }
    return m;
  }

  // One product with a small inverse instead of many triangular solves. Its eigenvalues lie within rank / (rho + reg)
  // of each other, which single precision bears.
  Tensor inverse_of(const Tensor& system, const Tensor& mean_diagonal, double rho) const {
    return solve(system + identity_ * (mean_diagonal * (rho + options_.regularization)), identity_);
  }

  Tensor solve(const Tensor& system, const Tensor& right, bool in_double = false) const {
    Tensor x = solve_spd(system, right, in_double);
    if (!x)
      throw Error(ErrorKind::numeric, "a system of the factorization cannot be solved", unit_, "",
                  "a larger regularization");
    return x;
  }

  const LowrankAdmmOptions& options_;
  const std::string& unit_;
  Tensor w_, d_;  // [rows, cols] of unit mean square, [1, cols]
  int64_t rows_, cols_, rank_;
  Tensor a_, b_;      // sums of primal and dual: [rows, rank], [rank, cols]
  Tensor h_, l_, g_;  // [rows, 1], [rank, 1], [1, cols]
  Tensor identity_;
};

// Shares the product's magnitude evenly, so that none of the halves comes near the ends of their range.
void balance(LowrankSignFactors& factors) {
  std::vector<float>* all[] = {&factors.h, &factors.l, &factors.g};
  double size[3], product = 1;
  for (int i = 0; i < 3; ++i) {
    double squares = 0;
    for (const float x : *all[i]) squares += static_cast<double>(x) * x;
    size[i] = std::sqrt(squares / static_cast<double>(all[i]->size()));
    product *= size[i];
  }
  if (product == 0) return;
  for (int i = 0; i < 3; ++i)
    for (float& x : *all[i]) x = static_cast<float>(x * (std::cbrt(product) / size[i]));
}

class LowrankAdmm final : public Quantizer {
 public:
  explicit LowrankAdmm(const LowrankAdmmOptions& options) : options_(options) {}
  Json options() const override { return write_options(options_); }
  bool accepts(const Format& format) const override { return format.name() == "lowrank_sign"; }
  bool needs_statistics() const override { return options_.importance == "activations"; }
  uint64_t scratch_bytes(Shape shape, const Format& format) const override {
    const auto& lowrank = dynamic_cast<const LowrankSignFormat&>(format);
    const uint64_t rank = lowrank.rank(shape), strip = std::min<uint64_t>(shape.rows, kStrip);
    // The weights once more. While factors are drawn, and when they leave as latents, the long one is there twice; in
    // between a strip of it in several stages of an expression, the short one too, the system and its factorization.
    const uint64_t twice = 2 * shape.rows * rank;
    const uint64_t steps =
        shape.rows * rank + strip * (6 * rank + 3 * shape.cols) + 9 * rank * shape.cols + 12 * rank * rank;
    return sizeof(float) * (shape.count() + std::max(twice, steps));
  }

  StageReport quantize(TensorState& state, const MethodContext& context) const override {
    check_unit(state);
    const std::string& name = state.unit.name;
    const Shape shape{state.weights.rows, state.weights.cols};
    state.plan->check_shape(shape, name);
    const auto format = as_lowrank_sign(state.plan);
    if (!format)
      throw Error(ErrorKind::usage, "lowrank_admm factorizes into signs; this format has none", name,
                  state.plan->label(), "lowrank_sign");
    if (!state.mask.empty())
      throw Error(ErrorKind::usage, "the unit is pruned, but its format cannot store zero", name, format->label(),
                  "nm_sign");
    const NoGrad guard;
    const SerialOperations serial;
    LowrankSignFactors factors{shape, {}, {}, {}, {}, {}};
    factorize(state, format->rank(shape), unit_seed(context.seed, name), factors);
    for (const auto* values : {&factors.u, &factors.v, &factors.h, &factors.l, &factors.g})
      for (const float value : *values)
        if (!std::isfinite(value))
          throw Error(ErrorKind::numeric, "the factorization diverged", name, "", "a larger regularization");
    balance(factors);
    state.packed = format->pack(factors);
    const uint64_t rank = factors.l.size();
    state.latents.assign(2, Matrix());
    state.latents[0].rows = shape.rows, state.latents[0].cols = rank;
    state.latents[1].rows = rank, state.latents[1].cols = shape.cols;
    state.latents[0].data = std::move(factors.u);
    state.latents[1].data = std::move(factors.v);
    return measure_loss(state);
  }

 private:
  static uint64_t unit_seed(uint64_t seed, const std::string& name) {
    Xxh3 hash;
    hash.add(std::as_bytes(std::span(&seed, 1))).add(std::as_bytes(std::span(name)));
    return hash.value();
  }

  std::vector<float> input_sizes(const TensorState& state) const {
    std::vector<float> sizes =
        input_importance(state, options_.importance, "lowrank_admm", std::max(options_.damping, 1e-9));
    if (sizes.empty()) sizes.assign(state.weights.cols, 1.0f);
    double mean = 0;
    for (const float size : sizes) mean += size / static_cast<double>(sizes.size());
    for (float& size : sizes) size = static_cast<float>(std::sqrt(size / mean));
    return sizes;
  }

  void factorize(const TensorState& state, uint64_t rank, uint64_t seed, LowrankSignFactors& factors) const {
    const std::vector<float> inputs = input_sizes(state);
    double squares = 0;
    for (const float w : state.weights.data) squares += static_cast<double>(w) * w;
    const double scale = std::sqrt(squares / static_cast<double>(state.weights.data.size()));
    if (scale == 0) {  // nothing to find
      factors.u.assign(state.weights.rows * rank, 1.0f);
      factors.v.assign(rank * state.weights.cols, 1.0f);
      factors.h.assign(state.weights.rows, 1.0f);
      factors.l.assign(rank, 0.0f);
      factors.g.assign(state.weights.cols, 1.0f);
      return;
    }
    Tensor weights = Tensor::from(state.weights);
    weights.assign(weights * (1 / scale));
    Factorization work(options_, state.unit.name, weights, Tensor::from(inputs, {static_cast<int64_t>(inputs.size())}),
                       static_cast<int64_t>(rank), seed);
    weights = Tensor();
    work.iterate();
    work.fit();
    work.take(scale, factors);
  }

  LowrankAdmmOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(quantize, lowrank_admm, LowrankAdmm, LowrankAdmmOptions)

}  // namespace whit
