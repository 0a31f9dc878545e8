// SPDX-License-Identifier: Apache-2.0
// Warping by a flow on an NVIDIA GPU: the launchers. The mathematics is in vharm/warp.hpp.
//
// Every pointer is device memory; `stream` is a cudaStream_t of the current device. Layouts may
// differ from tensor to tensor. Launchers return as soon as the work is queued.
//
// Gradients of the image that is sampled are sums of atomic additions: their last bits vary from
// run to run. With `deterministic` set, asking for one is Status::unsupported.
//
// Bytes moved per pixel with C channels of s bytes: flow_warp 2Cs + 8; backward 2Cs + 8 read, and
// 4C (four additions, in the cache where the flow is smooth) + 8 written; temporal_loss 2Cs + 8 and
// the masks, backward as much and C(s + 4) + 8 written.
#pragma once

#include "vharm/warp.hpp"

namespace vharm::cuda {

// Arguments as for the CPU launchers of the same names. Definitions: csrc/cuda/warp.cu.
VHARM_API Status flow_warp(const TensorView& image, const TensorView& flow, bool border,
                           const TensorView& out, const TensorView& valid, void* stream);

VHARM_API Status flow_warp_backward(const TensorView& grad, const TensorView& image,
                                    const TensorView& flow, bool border,
                                    const TensorView& grad_image, const TensorView& grad_flow,
                                    void* stream, bool deterministic = false);

VHARM_API Status flow_consistency(const TensorView& forward, const TensorView& backward,
                                  float alpha, float beta, const TensorView& out, void* stream);

// Definitions: csrc/cuda/warp_loss.cu.
VHARM_API Status temporal_loss(const TensorView& current, const TensorView& previous,
                               const TensorView& flow, const MaskView& mask, const MaskView& valid,
                               float* loss, float* weight, void* stream);

VHARM_API Status temporal_loss_backward(const float* scale, const TensorView& current,
                                        const TensorView& previous, const TensorView& flow,
                                        const MaskView& mask, const MaskView& valid,
                                        const TensorView& grad_current,
                                        const TensorView& grad_previous,
                                        const TensorView& grad_flow, void* stream,
                                        bool deterministic = false);

}  // namespace vharm::cuda
