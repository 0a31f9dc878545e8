// SPDX-License-Identifier: Apache-2.0
// The similarity gate: one thread per pixel, channel by channel.
#include "cuda/gate.cuh"

namespace vharm::cuda {
namespace {

struct GateCall {
  TensorView grad, theta, phi, feature, out;
  TensorView grad_theta, grad_phi, grad_feature, grad_mask;
  MaskView mask;
};

template <DType kType>
__device__ float agreement(const GateCall& call, const Pixel& p) {
  return gate_between<kType>(call.theta, offset_at(call.theta, p), call.phi,
                             offset_at(call.phi, p));
}

template <DType kType>
__global__ void gate_kernel(const __grid_constant__ GateCall call) {
  Pixel p;
  if (!pixel_of(call.feature, p)) return;
  const float m = fminf(fmaxf(raw_mask(call.mask, p), 0.0f), 1.0f);
  const float factor = m > 0.0f ? 1.0f + m * (agreement<kType>(call, p) - 1.0f) : 1.0f;
  const int64_t from = offset_at(call.feature, p), to = offset_at(call.out, p);
  for (int64_t c = 0; c < call.feature.c; ++c) {
    const float f = read<kType>(call.feature, from + c * call.feature.sc);
    write<kType>(call.out, to + c * call.out.sc, f * factor);
  }
}

template <DType kType>
__global__ void gate_backward_kernel(const __grid_constant__ GateCall call) {
  Pixel p;
  if (!pixel_of(call.feature, p)) return;
  const float raw = raw_mask(call.mask, p), m = fminf(fmaxf(raw, 0.0f), 1.0f);
  const float gate = agreement<kType>(call, p);
  const float factor = m > 0.0f ? 1.0f + m * (gate - 1.0f) : 1.0f;
  const int64_t from = offset_at(call.feature, p), grad = offset_at(call.grad, p);
  float product = 0.0f;
  for (int64_t c = 0; c < call.feature.c; ++c) {
    const float g = read<kType>(call.grad, grad + c * call.grad.sc);
    product = fmaf(g, read<kType>(call.feature, from + c * call.feature.sc), product);
    if (call.grad_feature.data != nullptr) {
      const int64_t to = offset_at(call.grad_feature, p) + c * call.grad_feature.sc;
      write<kType>(call.grad_feature, to, g * factor);
    }
  }
  if (call.grad_mask.data != nullptr) {
    const float slope = raw >= 0.0f && raw <= 1.0f ? product * (gate - 1.0f) : 0.0f;
    write_mask(call.grad_mask, p, slope);
  }
  const float slope = m > 0.0f ? m * product * gate * (1.0f - gate) : 0.0f;
  for (int64_t c = 0; c < call.theta.c; ++c) {
    if (call.grad_theta.data != nullptr) {
      const float other = read<kType>(call.phi, offset_at(call.phi, p) + c * call.phi.sc);
      const int64_t to = offset_at(call.grad_theta, p) + c * call.grad_theta.sc;
      write<kType>(call.grad_theta, to, slope * other);
    }
    if (call.grad_phi.data != nullptr) {
      const float other = read<kType>(call.theta, offset_at(call.theta, p) + c * call.theta.sc);
      const int64_t to = offset_at(call.grad_phi, p) + c * call.grad_phi.sc;
      write<kType>(call.grad_phi, to, slope * other);
    }
  }
}

}  // namespace

Status similarity_gate(const TensorView& theta, const TensorView& phi, const TensorView& feature,
                       const MaskView& mask, const TensorView& out, void* stream) {
  GateCall call{};
  call.theta = theta;
  call.phi = phi;
  call.feature = feature;
  call.mask = mask;
  call.out = out;
  return with_feature_dtype(theta.dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
    return launch_blocks(gate_kernel<kType>, call, blocks_for(feature), kThreads, 0, stream);
  });
}

Status similarity_gate_backward(const TensorView& grad, const TensorView& theta,
                                const TensorView& phi, const TensorView& feature,
                                const MaskView& mask, const TensorView& grad_theta,
                                const TensorView& grad_phi, const TensorView& grad_feature,
                                const TensorView& grad_mask, void* stream) {
  const GateCall call{grad,       theta,    phi,          feature,   {},
                      grad_theta, grad_phi, grad_feature, grad_mask, mask};
  return with_feature_dtype(theta.dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
    return launch_blocks(gate_backward_kernel<kType>, call, blocks_for(feature), kThreads, 0,
                         stream);
  });
}

}  // namespace vharm::cuda
