// SPDX-License-Identifier: Apache-2.0
// The temporal loss: the warp fused into its sums, and into its gradients.
#include "cuda/reduce.cuh"
#include "cuda/warp.cuh"
#include "vharm/warp_cuda.hpp"

namespace vharm::cuda {
namespace {

struct Frames {
  TensorView current, previous, flow;
  Mask mask, valid;
};

VHARM_HD float weight_at(const Frames& f, const Taps& t, int64_t n, int64_t y, int64_t x) {
  if (!t.inside()) return 0.0f;
  const float m = mask_at(f.mask, offset_of(f.mask.view, n, y, x)).v;
  return m > 0.0f ? m * mask_at(f.valid, offset_of(f.valid.view, n, y, x)).v : 0.0f;
}

struct LossCall {
  Frames frames;
  Walk walk;
  double* partials;  // [n, blocks, 2]: squares, weight
};

template <DType kType>
__global__ void __launch_bounds__(kThreads) loss_kernel(const __grid_constant__ LossCall call) {
  const int64_t n = blockIdx.x / call.walk.blocks, block = blockIdx.x % call.walk.blocks;
  const Frames& f = call.frames;
  Real sums[2] = {Real(0.0f), Real(0.0f)};
  each_group(call.walk, block, threadIdx.x, [&](int64_t y, int64_t x, int) {
    const Taps t = taps_of(f.flow, n, y, x);
    const float w = weight_at(f, t, n, y, x);
    if (!(w > 0.0f)) return;
    const Places p = places_of(t, f.previous, true);
    int64_t plane = n * f.previous.sn, own = place_of(f.current, n, y, x);
    float squares = 0;
    for (int64_t c = 0; c < f.current.c; ++c) {
      const float d = read<kType>(f.current, own) - square<kType>(f.previous, plane, p).mixed(t);
      squares += (w * d) * (w * d);
      plane += f.previous.sc;
      own += f.current.sc;
    }
    sums[0] = sums[0] + Real(squares);
    sums[1] = sums[1] + Real(w);
  });
  write_partials<2, 2>(sums, 2, call.partials + int64_t(blockIdx.x) * 2);
}

struct LossTotal {
  const double* partials;
  int blocks;
  double channels;
  float *loss, *weight;
};

__global__ void __launch_bounds__(kThreads)
    loss_total_kernel(const __grid_constant__ LossTotal call) {
  __shared__ double totals[2];
  const int64_t n = blockIdx.x;
  image_totals(call.partials + n * call.blocks * 2, call.blocks, 2, totals);
  if (threadIdx.x == 0) {
    const bool some = totals[1] > 0;
    call.weight[n] = static_cast<float>(totals[1]);
    call.loss[n] = some ? static_cast<float>(totals[0] / (totals[1] * call.channels)) : 0.0f;
  }
}

struct LossBackwardCall {
  Frames frames;
  Walk walk;
  const float* scale;  // [n]
  TensorView grad_current, grad_previous, grad_flow;
};

template <DType kType>
__global__ void __launch_bounds__(kThreads)
    loss_backward_kernel(const __grid_constant__ LossBackwardCall call) {
  const int64_t n = blockIdx.x / call.walk.blocks, block = blockIdx.x % call.walk.blocks;
  const Frames& f = call.frames;
  const TensorView &gc = call.grad_current, &gp = call.grad_previous, &gf = call.grad_flow;
  each_group(call.walk, block, threadIdx.x, [&](int64_t y, int64_t x, int) {
    const Taps t = taps_of(f.flow, n, y, x);
    const float w = weight_at(f, t, n, y, x);
    const bool counts = w > 0.0f;
    const Places from = places_of(t, f.previous, true), to = places_of(t, gp, true);
    const float factor = counts ? call.scale[n] * w * w : 0.0f;
    float gx = 0, gy = 0;
    for (int64_t c = 0; c < f.current.c; ++c) {
      float g = 0;
      if (counts) {
        const Square s = square<kType>(f.previous, n * f.previous.sn + c * f.previous.sc, from);
        const int64_t own = place_of(f.current, n, y, x) + c * f.current.sc;
        g = factor * (read<kType>(f.current, own) - s.mixed(t));
        gx -= g * s.slope_x(t);
        gy -= g * s.slope_y(t);
        if (gp.data != nullptr) scatter(gp, n * gp.sn + c * gp.sc, to, t, -g);
      }
      if (gc.data != nullptr) write<kType>(gc, place_of(gc, n, y, x) + c * gc.sc, g);
    }
    if (gf.data != nullptr) {
      auto* p = static_cast<float*>(gf.data) + place_of(gf, n, y, x);
      p[0] = gx;
      p[gf.sc] = gy;
    }
  });
}

Frames frames_of(const TensorView& current, const TensorView& previous, const TensorView& flow,
                 const MaskView& mask, const MaskView& valid) {
  const auto prepare = [](const MaskView& m) { return Mask{m, 1.0f / (m.white - m.black), false}; };
  return {current, previous, flow, prepare(mask), prepare(valid)};
}

}  // namespace

Status temporal_loss(const TensorView& current, const TensorView& previous, const TensorView& flow,
                     const MaskView& mask, const MaskView& valid, float* loss, float* weight,
                     void* stream) {
  if (current.dtype != previous.dtype || is_too_large(current)) return Status::unsupported;
  if (is_empty(current)) return Status::ok;
  const Walk walk = make_walk(current.h, current.w, 1);
  const Workspace partials(current.n * walk.blocks * 2, stream);
  if (partials.status() != Status::ok) return partials.status();
  const LossCall call{frames_of(current, previous, flow, mask, valid), walk, partials.data()};
  const Status status = with_samples(current.dtype, [&](auto known) {
    return launch(loss_kernel<decltype(known)::value>, call, current.n * walk.blocks, stream);
  });
  if (status != Status::ok) return status;
  const LossTotal total{partials.data(), walk.blocks, double(current.c), loss, weight};
  return launch(loss_total_kernel, total, current.n, stream);
}

Status temporal_loss_backward(const float* scale, const TensorView& current,
                              const TensorView& previous, const TensorView& flow,
                              const MaskView& mask, const MaskView& valid,
                              const TensorView& grad_current, const TensorView& grad_previous,
                              const TensorView& grad_flow, void* stream, bool deterministic) {
  const bool scatters = grad_previous.data != nullptr;
  if (current.dtype != previous.dtype || is_too_large(current) || (scatters && deterministic)) {
    return Status::unsupported;
  }
  if (is_empty(current)) return Status::ok;
  const Status cleared = clear(grad_previous, stream);
  if (cleared != Status::ok) return cleared;
  const LossBackwardCall call{frames_of(current, previous, flow, mask, valid),
                              pixel_walk(flow),
                              scale,
                              grad_current,
                              grad_previous,
                              grad_flow};
  return with_samples(current.dtype, [&](auto known) {
    return launch(loss_backward_kernel<decltype(known)::value>, call, current.n * call.walk.blocks,
                  stream);
  });
}

}  // namespace vharm::cuda
