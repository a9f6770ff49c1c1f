#include "format/nm_sign.h"

#include <gtest/gtest.h>

#include <cmath>

#include "methods/parametrize/parametrizations.h"
#include "methods/units.h"

namespace whit {
namespace {

TEST(NmSignSte, KeepsExactlyTheLargestOfEveryGroup) {
  // 2:4 over six columns; equal magnitudes: the first; the rest of two keeps one.
  Tensor x = Tensor::from(std::vector<float>{1, -3, 2, 0, -1, 1, 5, 5, -5, 5, 0, 0}, {2, 6}).requires_grad();
  const Tensor q = nm_sign_ste(x, 2, 4);
  EXPECT_EQ(q.values(), (std::vector<float>{0, -1, 1, 0, -1, 0, 1, 1, 0, 0, 1, 0}));
  sum(q * 3.0).backward();
  EXPECT_EQ(x.grad().values(), std::vector<float>(12, 3.0f));
  EXPECT_EQ(nm_sign_ste(x, 4, 4).values(), (std::vector<float>{1, -1, 1, 1, -1, 1, 1, 1, -1, 1, 1, 1}));
}

TEST(NmSignParametrization, ShowsWhatIsStoredAndEncodesTheSameBytes) {
  ThreadPool pool(1);
  for (const auto& [n, m] : std::vector<std::pair<int, int>>{{2, 8}, {3, 16}, {1, 4}, {8, 8}, {16, 32}})
    for (const bool columns : {false, true}) {
      TensorState state =
          tests::make_unit(9, 172, make_format("nm_sign", {{"n", n}, {"m", m}, {"columns", columns}}), 1);
      make_quantizer("nm_sign", Json::object())->quantize(state, {pool});
      for (const bool with_weights : {false, true}) {
        const auto learned = make_parametrization(parametrization_rows(), *state.packed,
                                                  {with_weights ? MatrixView(state.weights) : MatrixView(), {}});
        EXPECT_EQ(learned->materialize().matrix().data, tests::unpacked(*state.packed).data) << state.plan->label();
        EXPECT_EQ(learned->encode().parts, state.packed->parts) << state.plan->label();
      }
    }
}

TEST(NmSignParametrization, WhatWasLeftOutCanComeBack) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(3, 16, make_format("nm_sign"), 2, false);
  make_quantizer("nm_sign", Json::object())->quantize(state, {pool});
  const auto learned = make_parametrization(parametrization_rows(), *state.packed, {state.weights, {}});
  Tensor latents = learned->parameters()[0].tensors[0];
  sum(square(learned->materialize() - 1.0)).backward();
  for (const float g : latents.grad().values()) EXPECT_NE(g, 0.0f);
  std::vector<float> turned = latents.values();
  for (size_t k = 0; k < turned.size(); ++k) turned[k] = k % 8 < 2 ? -9.0f : turned[k];
  latents.assign(Tensor::from(turned, latents.shape()));
  const NmSigns after = as_nm_sign(state.plan)->unpack_signs(learned->encode());
  for (size_t k = 0; k < turned.size(); ++k) EXPECT_EQ(after.signs[k], k % 8 < 2 ? -1 : 0);
  latents.assign(latents * std::nan(""));
  EXPECT_THROW(learned->encode(), Error);
}

}  // namespace
}  // namespace whit
