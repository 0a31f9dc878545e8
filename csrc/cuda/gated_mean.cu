// SPDX-License-Identifier: Apache-2.0
// The gated mean: one thread per pixel. Each neighbour's channels are read for the product and
// again for the sum, the second time from the cache.
#include "cuda/gate.cuh"

namespace vharm::cuda {
namespace {

constexpr int64_t kKept = 8;  // gates a thread remembers; those beyond are computed again

struct Call {
  StackView neighbours, result, grad_neighbours;  // `result` is the output or its gradient
  TensorView own, grad_own, grad_mask;
  MaskView mask;
};

__device__ int64_t offset_at(const StackView& stack, int64_t k, const Pixel& p) {
  return offset_at(stack.first, p) + k * stack.step;
}

template <DType kType>
__device__ float agreement(const Call& call, int64_t k, const Pixel& p) {
  return gate_between<kType>(call.neighbours.first, offset_at(call.neighbours, k, p), call.own,
                             offset_at(call.own, p));
}

template <DType kType>
__global__ void mean_kernel(const __grid_constant__ Call call) {
  Pixel p;
  if (!pixel_of(call.own, p)) return;
  const float m = fminf(fmaxf(raw_mask(call.mask, p), 0.0f), 1.0f);
  const int64_t share = call.neighbours.count / call.result.count;
  const auto gate = [&](int64_t k) {
    return m > 0.0f ? 1.0f + m * (agreement<kType>(call, k, p) - 1.0f) : 1.0f;
  };
  const TensorView &w = call.neighbours.first, &to = call.result.first;
  float kept[kKept];
  for (int64_t l = 0; l < call.result.count; ++l) {
    for (int64_t r = 0; r < share && r < kKept; ++r) kept[r] = gate(l * share + r);
    const int64_t out = offset_at(call.result, l, p);
    for (int64_t c = 0; c < call.own.c; ++c) {
      float sum = 0.0f;
      for (int64_t r = 0; r < share; ++r) {
        const int64_t k = l * share + r;
        const float factor = r < kKept ? kept[r] : gate(k);
        const float sample = read<kType>(w, offset_at(call.neighbours, k, p) + c * w.sc);
        sum = fmaf(sample, factor, sum);
      }
      write<kType>(to, out + c * to.sc, sum / static_cast<float>(share));
    }
  }
}

// The gradient of one neighbour's gate.
struct Slope {
  float gate, own, mask;  // the gate; the slope by the product with own; by the mask
};
template <DType kType>
__device__ Slope slope_of(const Call& call, int64_t k, float m, const Pixel& p) {
  const int64_t share = call.neighbours.count / call.result.count;
  const TensorView &w = call.neighbours.first, &g = call.result.first;
  const int64_t from = offset_at(call.neighbours, k, p);
  const int64_t grad = offset_at(call.result, k / share, p), own = offset_at(call.own, p);
  float product = 0.0f, sum = 0.0f;
  for (int64_t c = 0; c < call.own.c; ++c) {
    const float sample = read<kType>(w, from + c * w.sc);
    product = fmaf(sample, read<kType>(g, grad + c * g.sc), product);
    sum = fmaf(sample, read<kType>(call.own, own + c * call.own.sc), sum);
  }
  product /= static_cast<float>(share);
  const float a = sigmoid(sum), by_mask = product * (a - 1.0f);
  if (m > 0.0f) return {1.0f + m * (a - 1.0f), m * product * a * (1.0f - a), by_mask};
  return {1.0f, 0.0f, by_mask};
}

template <DType kType>
__global__ void mean_backward_kernel(const __grid_constant__ Call call) {
  Pixel p;
  if (!pixel_of(call.own, p)) return;
  const float raw = raw_mask(call.mask, p), m = fminf(fmaxf(raw, 0.0f), 1.0f);
  // Outside the mask only the mask's own gradient needs the products.
  const bool inside = m > 0.0f, look = inside || call.grad_mask.data != nullptr;
  const int64_t share = call.neighbours.count / call.result.count;
  const TensorView &w = call.neighbours.first, &g = call.result.first;
  const TensorView& to = call.grad_neighbours.first;
  const int64_t own = offset_at(call.own, p);
  float kept[kKept], by_mask = 0.0f;
  for (int64_t k = 0; k < call.neighbours.count; ++k) {
    const Slope slope = look ? slope_of<kType>(call, k, m, p) : Slope{1.0f, 0.0f, 0.0f};
    if (k < kKept) kept[k] = slope.own;
    by_mask += slope.mask;
    if (to.data == nullptr) continue;
    const int64_t grad = offset_at(call.result, k / share, p);
    const int64_t at = offset_at(call.grad_neighbours, k, p);
    for (int64_t c = 0; c < call.own.c; ++c) {
      float sum = read<kType>(g, grad + c * g.sc) / static_cast<float>(share) * slope.gate;
      if (inside) sum = fmaf(slope.own, read<kType>(call.own, own + c * call.own.sc), sum);
      write<kType>(to, at + c * to.sc, sum);
    }
  }
  if (call.grad_own.data != nullptr) {
    const int64_t at = offset_at(call.grad_own, p);
    for (int64_t c = 0; c < call.own.c; ++c) {
      float sum = 0.0f;
      for (int64_t k = 0; inside && k < call.neighbours.count; ++k) {
        const float slope = k < kKept ? kept[k] : slope_of<kType>(call, k, m, p).own;
        sum = fmaf(slope, read<kType>(w, offset_at(call.neighbours, k, p) + c * w.sc), sum);
      }
      write<kType>(call.grad_own, at + c * call.grad_own.sc, sum);
    }
  }
  if (call.grad_mask.data != nullptr) {
    const float slope = raw >= 0.0f && raw <= 1.0f ? by_mask : 0.0f;
    write_mask(call.grad_mask, p, slope);
  }
}

bool fits(const Call& call) {
  return call.result.count > 0 && call.neighbours.count > 0 &&
         call.neighbours.count % call.result.count == 0;
}

}  // namespace

Status gated_mean(const StackView& neighbours, const TensorView& own, const MaskView& mask,
                  const StackView& out, void* stream) {
  const Call call{neighbours, out, {}, own, {}, {}, mask};
  if (!fits(call)) return Status::unsupported;
  return with_feature_dtype(own.dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
    return launch_blocks(mean_kernel<kType>, call, blocks_for(own), kThreads, 0, stream);
  });
}

Status gated_mean_backward(const StackView& grad, const StackView& neighbours,
                           const TensorView& own, const MaskView& mask,
                           const StackView& grad_neighbours, const TensorView& grad_own,
                           const TensorView& grad_mask, void* stream) {
  const Call call{neighbours, grad, grad_neighbours, own, grad_own, grad_mask, mask};
  if (!fits(call)) return Status::unsupported;
  return with_feature_dtype(own.dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
    return launch_blocks(mean_backward_kernel<kType>, call, blocks_for(own), kThreads, 0, stream);
  });
}

}  // namespace vharm::cuda
