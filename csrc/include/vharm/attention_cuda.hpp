// SPDX-License-Identifier: Apache-2.0
// Masked attention on an NVIDIA GPU: the launchers, with the arguments of those in
// vharm/attention.hpp and a cudaStream_t of the current device in place of the threads.
//
// Every pointer is device memory. Launchers return as soon as the work is queued and can be
// captured in a CUDA graph. Keys gather from the queries that see them, without atomics: results
// are the same on every run. All feature maps of a call have one dtype.
#pragma once

#include "vharm/attention.hpp"

namespace vharm::cuda {

// Channels are cut into `heads` equal runs. out is like v, overwritten everywhere, zero where the
// mask is not above zero; lse [n, heads, h, w] is contiguous.
VHARM_API Status neighborhood_attention(const TensorView& q, const TensorView& k,
                                        const TensorView& v, const MaskView& mask,
                                        const MaskView& key_mask, int64_t window, int heads,
                                        float scale, const TensorView& out, float* lse,
                                        void* stream);

// inner [n, heads, h, w] is scratch. Gradients that are not wanted have data == nullptr.
VHARM_API Status neighborhood_attention_backward(const TensorView& grad, const TensorView& q,
                                                 const TensorView& k, const TensorView& v,
                                                 const MaskView& mask, const MaskView& key_mask,
                                                 const float* lse, int64_t window, int heads,
                                                 float scale, float* inner,
                                                 const TensorView& grad_q, const TensorView& grad_k,
                                                 const TensorView& grad_v, void* stream);

// Writes out and lse at the queries' positions only; they start out zero.
VHARM_API Status nonlocal_attention(const TensorView& q, const TensorView& k, const TensorView& v,
                                    const Positions& queries, const Positions& keys, int heads,
                                    float scale, const TensorView& out, float* lse, void* stream);

// The gradients start out zero.
VHARM_API Status nonlocal_attention_backward(const TensorView& grad, const TensorView& q,
                                             const TensorView& k, const TensorView& v,
                                             const Positions& queries, const Positions& keys,
                                             const TensorView& out, const float* lse, int heads,
                                             float scale, float* inner, const TensorView& grad_q,
                                             const TensorView& grad_k, const TensorView& grad_v,
                                             void* stream);

// out = feature * (1 + m (a - 1)), a = sigmoid(sum_c theta_c phi_c).
VHARM_API Status similarity_gate(const TensorView& theta, const TensorView& phi,
                                 const TensorView& feature, const MaskView& mask,
                                 const TensorView& out, void* stream);

VHARM_API Status similarity_gate_backward(const TensorView& grad, const TensorView& theta,
                                          const TensorView& phi, const TensorView& feature,
                                          const MaskView& mask, const TensorView& grad_theta,
                                          const TensorView& grad_phi,
                                          const TensorView& grad_feature,
                                          const TensorView& grad_mask, void* stream);

// out_l = mean of w_k (1 + m (a_k - 1)) over the l-th of out.count equal runs of neighbours w_k,
// a_k = sigmoid(sum_c w_kc own_c). `unsupported` where the runs would not be equal.
VHARM_API Status gated_mean(const StackView& neighbours, const TensorView& own,
                            const MaskView& mask, const StackView& out, void* stream);

VHARM_API Status gated_mean_backward(const StackView& grad, const StackView& neighbours,
                                     const TensorView& own, const MaskView& mask,
                                     const StackView& grad_neighbours, const TensorView& grad_own,
                                     const TensorView& grad_mask, void* stream);

}  // namespace vharm::cuda
