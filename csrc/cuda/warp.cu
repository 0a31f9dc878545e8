// SPDX-License-Identifier: Apache-2.0
// Warped images, their gradients, and the consistency of flows.
#include "cuda/warp.cuh"
#include "vharm/warp_cuda.hpp"

namespace vharm::cuda {
namespace {

struct WarpCall {
  TensorView image, flow, out, valid;
  bool border;
  Walk walk;
};

template <DType kType>
__global__ void __launch_bounds__(kThreads) warp_kernel(const __grid_constant__ WarpCall call) {
  const int64_t n = blockIdx.x / call.walk.blocks, block = blockIdx.x % call.walk.blocks;
  each_group(call.walk, block, threadIdx.x, [&](int64_t y, int64_t x, int) {
    const Taps t = taps_of(call.flow, n, y, x);
    const Places p = places_of(t, call.image, call.border);
    if (call.valid.data != nullptr) {
      static_cast<uint8_t*>(call.valid.data)[place_of(call.valid, n, y, x)] = t.inside();
    }
    int64_t plane = n * call.image.sn, to = place_of(call.out, n, y, x);
    for (int64_t c = 0; c < call.image.c; ++c) {
      write<kType>(call.out, to, square<kType>(call.image, plane, p).mixed(t));
      plane += call.image.sc;
      to += call.out.sc;
    }
  });
}

struct BackwardCall {
  TensorView grad, image, flow, grad_image, grad_flow;
  bool border;
  Walk walk;
};

template <DType kType>
__global__ void __launch_bounds__(kThreads)
    warp_backward_kernel(const __grid_constant__ BackwardCall call) {
  const int64_t n = blockIdx.x / call.walk.blocks, block = blockIdx.x % call.walk.blocks;
  const bool wants_image = call.grad_image.data != nullptr;
  const bool wants_flow = call.grad_flow.data != nullptr;
  each_group(call.walk, block, threadIdx.x, [&](int64_t y, int64_t x, int) {
    const Taps t = taps_of(call.flow, n, y, x);
    const Places from = places_of(t, call.image, call.border);
    const Places to = places_of(t, call.grad_image, call.border);
    const int64_t own = place_of(call.grad, n, y, x);
    float gx = 0, gy = 0;
    for (int64_t c = 0; c < call.image.c; ++c) {
      const float g = read<kType>(call.grad, own + c * call.grad.sc);
      if (wants_flow) {
        const Square s = square<kType>(call.image, n * call.image.sn + c * call.image.sc, from);
        gx += g * s.slope_x(t);
        gy += g * s.slope_y(t);
      }
      if (wants_image) {
        scatter(call.grad_image, n * call.grad_image.sn + c * call.grad_image.sc, to, t, g);
      }
    }
    if (wants_flow) {
      auto* p = static_cast<float*>(call.grad_flow.data) + place_of(call.grad_flow, n, y, x);
      p[0] = gx;
      p[call.grad_flow.sc] = gy;
    }
  });
}

struct ConsistencyCall {
  TensorView forward, backward, out;
  float alpha, beta;
  Walk walk;
};

__global__ void __launch_bounds__(kThreads)
    consistency_kernel(const __grid_constant__ ConsistencyCall call) {
  const int64_t n = blockIdx.x / call.walk.blocks, block = blockIdx.x % call.walk.blocks;
  each_group(call.walk, block, threadIdx.x, [&](int64_t y, int64_t x, int) {
    const Taps t = taps_of(call.forward, n, y, x);
    const Places p = places_of(t, call.backward, true);
    const int64_t plane = n * call.backward.sn;
    const float bx = square<DType::f32>(call.backward, plane, p).mixed(t);
    const float by = square<DType::f32>(call.backward, plane + call.backward.sc, p).mixed(t);
    const bool agree = t.inside() && flows_agree(t.dx, t.dy, bx, by, call.alpha, call.beta);
    static_cast<uint8_t*>(call.out.data)[place_of(call.out, n, y, x)] = agree;
  });
}

}  // namespace

Status flow_warp(const TensorView& image, const TensorView& flow, bool border,
                 const TensorView& out, const TensorView& valid, void* stream) {
  if (image.dtype != out.dtype || is_too_large(image)) return Status::unsupported;
  if (is_empty(image)) return Status::ok;
  const WarpCall call{image, flow, out, valid, border, pixel_walk(flow)};
  return with_samples(image.dtype, [&](auto known) {
    return launch(warp_kernel<decltype(known)::value>, call, image.n * call.walk.blocks, stream);
  });
}

Status flow_warp_backward(const TensorView& grad, const TensorView& image, const TensorView& flow,
                          bool border, const TensorView& grad_image, const TensorView& grad_flow,
                          void* stream, bool deterministic) {
  const bool scatters = grad_image.data != nullptr;
  if (grad.dtype != image.dtype || is_too_large(image) || (scatters && deterministic)) {
    return Status::unsupported;
  }
  if (is_empty(image)) return Status::ok;
  const Status cleared = clear(grad_image, stream);
  if (cleared != Status::ok) return cleared;
  const BackwardCall call{grad, image, flow, grad_image, grad_flow, border, pixel_walk(flow)};
  return with_samples(image.dtype, [&](auto known) {
    return launch(warp_backward_kernel<decltype(known)::value>, call, image.n * call.walk.blocks,
                  stream);
  });
}

Status flow_consistency(const TensorView& forward, const TensorView& backward, float alpha,
                        float beta, const TensorView& out, void* stream) {
  if (is_too_large(forward) || backward.dtype != DType::f32) return Status::unsupported;
  if (is_empty(forward)) return Status::ok;
  const ConsistencyCall call{forward, backward, out, alpha, beta, pixel_walk(forward)};
  return launch(consistency_kernel, call, forward.n * call.walk.blocks, stream);
}

}  // namespace vharm::cuda
