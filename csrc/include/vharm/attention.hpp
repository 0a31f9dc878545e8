// SPDX-License-Identifier: Apache-2.0
// Masked attention over feature maps: the mathematics shared by every device, and the launchers.
//
// Softmaxes are taken to the base 2: scores are multiplied by scale * log2(e) once, and `lse`
// holds log2(sum of 2^score). The gradients of
//   out_i = sum_j p_ij v_j,  p_ij = 2^(score_ij - lse_i)
// are, with g the gradient of out,
//   inner_i = sum_j p_ij (g_i . v_j) = g_i . out_i,   d_ij = scale p_ij (g_i . v_j - inner_i),
//   dq_i = sum_j d_ij k_j,  dk_j = sum_i d_ij q_i,  dv_j = sum_i p_ij g_i.
// Keys gather from the queries that see them, so no sum depends on the order of threads.
#pragma once

#include "vharm/scalar.hpp"
#include "vharm/types.hpp"

namespace vharm {

constexpr float kLog2E = 1.44269504088896340736f;

// Offsets from a query to its keys, both ends included, the same along both axes.
struct Window {
  int64_t low, high;
};
VHARM_HD Window window_of(int64_t size) { return {-(size / 2), size - 1 - size / 2}; }
// From a key to the queries that see it.
VHARM_HD Window mirrored(Window w) { return {-w.high, -w.low}; }
// Offsets beyond the image reach nothing.
VHARM_HD Window clipped(Window w, int64_t extent) {
  const int64_t most = extent - 1;
  return {w.low < -most ? -most : w.low, w.high > most ? most : w.high};
}

// The set positions of a mask: `index` [n, size], in order, of which the first count[n] are valid.
struct Positions {
  const int32_t* index;
  const int32_t* count;
  int64_t size;
};

// Stacks of feature maps [n, count, c, h, w]: `first` shows the first of each, `step` samples lead
// from one to the next.
struct StackView {
  TensorView first;
  int64_t count, step;
};

// sum of theta * phi to the gate's weight.
template <class F>
VHARM_HD F sigmoid(F x) {
  // Beyond 2^-126 the power would leave the floats; a NaN stays.
  const F power = vmax(F(-126.0f), vmin(F(126.0f), x * F(-kLog2E)));
  return F(1.0f) / (F(1.0f) + vexp2(power));
}

// ---- launchers ----------------------------------------------------------------------------------

// Channels are cut into `heads` equal runs. out is like v, overwritten everywhere, zero where the
// mask is not above zero; lse [n, heads, h, w] is contiguous.
VHARM_API Status neighborhood_attention(const TensorView& q, const TensorView& k,
                                        const TensorView& v, const MaskView& mask,
                                        const MaskView& key_mask, int64_t window, int heads,
                                        float scale, const TensorView& out, float* lse,
                                        int threads);

// inner [n, heads, h, w] is scratch. Gradients that are not wanted have data == nullptr.
VHARM_API Status neighborhood_attention_backward(const TensorView& grad, const TensorView& q,
                                                 const TensorView& k, const TensorView& v,
                                                 const MaskView& mask, const MaskView& key_mask,
                                                 const float* lse, int64_t window, int heads,
                                                 float scale, float* inner,
                                                 const TensorView& grad_q, const TensorView& grad_k,
                                                 const TensorView& grad_v, int threads);

// Writes out and lse at the queries' positions only; they start out zero.
VHARM_API Status nonlocal_attention(const TensorView& q, const TensorView& k, const TensorView& v,
                                    const Positions& queries, const Positions& keys, int heads,
                                    float scale, const TensorView& out, float* lse, int threads);

// The gradients start out zero.
VHARM_API Status nonlocal_attention_backward(const TensorView& grad, const TensorView& q,
                                             const TensorView& k, const TensorView& v,
                                             const Positions& queries, const Positions& keys,
                                             const TensorView& out, const float* lse, int heads,
                                             float scale, float* inner, const TensorView& grad_q,
                                             const TensorView& grad_k, const TensorView& grad_v,
                                             int threads);

// out = feature * (1 + m (a - 1)), a = sigmoid(sum_c theta_c phi_c).
VHARM_API Status similarity_gate(const TensorView& theta, const TensorView& phi,
                                 const TensorView& feature, const MaskView& mask,
                                 const TensorView& out, int threads);

VHARM_API Status similarity_gate_backward(const TensorView& grad, const TensorView& theta,
                                          const TensorView& phi, const TensorView& feature,
                                          const MaskView& mask, const TensorView& grad_theta,
                                          const TensorView& grad_phi,
                                          const TensorView& grad_feature,
                                          const TensorView& grad_mask, int threads);

// out_l = mean of w_k (1 + m (a_k - 1)) over the l-th of out.count equal runs of neighbours w_k,
// a_k = sigmoid(sum_c w_kc own_c). `unsupported` where the runs would not be equal.
VHARM_API Status gated_mean(const StackView& neighbours, const TensorView& own,
                            const MaskView& mask, const StackView& out, int threads);

VHARM_API Status gated_mean_backward(const StackView& grad, const StackView& neighbours,
                                     const TensorView& own, const MaskView& mask,
                                     const StackView& grad_neighbours, const TensorView& grad_own,
                                     const TensorView& grad_mask, int threads);

}  // namespace vharm
