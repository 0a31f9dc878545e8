// SPDX-License-Identifier: Apache-2.0
// Neighbourhood attention and its gradients.
#include "cuda/attention_window.cuh"

namespace vharm::cuda {
namespace {

struct Forward {
  TensorView q, k, v, out;
  MaskView mask, key_mask;
  float* lse;
  float factor;
  Windows windows;
};

template <DType kType, bool kStored>
__global__ void forward_kernel(const __grid_constant__ Forward call) {
  extern __shared__ float shared[];
  const Windows& windows = call.windows;
  const Spot at = spot_of(windows);
  if (at.x >= windows.w) return;
  const int dq = static_cast<int>(call.q.c) / windows.heads;
  const int dv = static_cast<int>(call.v.c) / windows.heads;
  float* lse = call.lse + windows.row(at.n, at.head, at.y, at.x);
  *lse = 0.0f;
  if (!is_set(call.mask, at.n, at.y, at.x)) return clear<kType>(call.out, dv, at);
  float* column = shared + threadIdx.x;
  const Products<kType, kStored> scores{call.q, call.k, windows, call.key_mask, at, dq, column};
  scores.fill();
  float most = -3e38f, sum = 0.0f;
  bool some = false;
  each_neighbour(windows, call.key_mask, at, [&](int64_t o, int64_t y, int64_t x) {
    const float score = scores.get(o, y, x) * call.factor;
    const float top = score > most ? score : most;
    sum = sum * exp2f(most - top) + exp2f(score - top);
    most = top;
    some = true;
  });
  if (some) *lse = most + log2f(sum);
  const float inverse = some ? 1.0f / sum : 0.0f;
  weighted_sum<kType>(windows, call.key_mask, at, call.v, dv, inverse, call.out,
                      [&](int64_t o, int64_t y, int64_t x) {
                        return exp2f(scores.get(o, y, x) * call.factor - most);
                      });
}

struct Backward {
  TensorView grad, q, k, v, grad_q, grad_k, grad_v;
  MaskView mask, key_mask;
  const float* lse;
  float* inner;
  float factor, scale;
  Windows windows;
};

template <DType kType, bool kStored>
__global__ void query_kernel(const __grid_constant__ Backward call) {
  extern __shared__ float shared[];
  const Windows& windows = call.windows;
  const Spot at = spot_of(windows);
  if (at.x >= windows.w) return;
  const int dq = static_cast<int>(call.q.c) / windows.heads;
  const int dv = static_cast<int>(call.v.c) / windows.heads;
  const int64_t row = windows.row(at.n, at.head, at.y, at.x);
  if (!is_set(call.mask, at.n, at.y, at.x)) {
    call.inner[row] = 0.0f;
    if (call.grad_q.data != nullptr) clear<kType>(call.grad_q, dq, at);
    return;
  }
  float *first = shared + threadIdx.x, *second = first + windows.offsets() * blockDim.x;
  const Products<kType, kStored> scores{call.q, call.k, windows, call.key_mask, at, dq, first};
  const Products<kType, kStored> slopes{call.grad, call.v, windows, call.key_mask, at, dv, second};
  scores.fill();
  slopes.fill();
  const float lse = call.lse[row];
  float inner = 0.0f;
  each_neighbour(windows, call.key_mask, at, [&](int64_t o, int64_t y, int64_t x) {
    const float weight = exp2f(scores.get(o, y, x) * call.factor - lse);
    inner = fmaf(weight, slopes.get(o, y, x), inner);
  });
  call.inner[row] = inner;
  if (call.grad_q.data == nullptr) return;
  weighted_sum<kType>(windows, call.key_mask, at, call.k, dq, call.scale, call.grad_q,
                      [&](int64_t o, int64_t y, int64_t x) {
                        const float weight = exp2f(scores.get(o, y, x) * call.factor - lse);
                        return weight * (slopes.get(o, y, x) - inner);
                      });
}

// The own positions are keys, their neighbours (through the mirrored window) queries.
template <DType kType, bool kStored>
__global__ void key_kernel(const __grid_constant__ Backward call) {
  extern __shared__ float shared[];
  const Windows& windows = call.windows;
  const Spot at = spot_of(windows);
  if (at.x >= windows.w) return;
  const int dq = static_cast<int>(call.q.c) / windows.heads;
  const int dv = static_cast<int>(call.v.c) / windows.heads;
  if (!is_set(call.key_mask, at.n, at.y, at.x)) {
    if (call.grad_k.data != nullptr) clear<kType>(call.grad_k, dq, at);
    if (call.grad_v.data != nullptr) clear<kType>(call.grad_v, dv, at);
    return;
  }
  float *first = shared + threadIdx.x, *second = first + windows.offsets() * blockDim.x;
  const Products<kType, kStored> scores{call.k, call.q, windows, call.mask, at, dq, first};
  const Products<kType, kStored> slopes{call.v, call.grad, windows, call.mask, at, dv, second};
  scores.fill();
  const auto weight = [&](int64_t o, int64_t y, int64_t x) {
    const float lse = call.lse[windows.row(at.n, at.head, y, x)];
    return exp2f(scores.get(o, y, x) * call.factor - lse);
  };
  if (call.grad_v.data != nullptr) {
    weighted_sum<kType>(windows, call.mask, at, call.grad, dv, 1.0f, call.grad_v, weight);
  }
  if (call.grad_k.data == nullptr) return;
  slopes.fill();
  weighted_sum<kType>(windows, call.mask, at, call.q, dq, call.scale, call.grad_k,
                      [&](int64_t o, int64_t y, int64_t x) {
                        const float inner = call.inner[windows.row(at.n, at.head, y, x)];
                        return weight(o, y, x) * (slopes.get(o, y, x) - inner);
                      });
}

}  // namespace

Status neighborhood_attention(const TensorView& q, const TensorView& k, const TensorView& v,
                              const MaskView& mask, const MaskView& key_mask, int64_t window,
                              int heads, float scale, const TensorView& out, float* lse,
                              void* stream) {
  Forward call{q, k, v, out, mask, key_mask, lse, scale * kLog2E, {}};
  call.windows = windows_of(q, heads, window_of(window), 1);
  bool stored = false;
  const int threads = threads_for(call.windows.offsets(), 1, stored);
  call.windows = windows_of(q, heads, window_of(window), threads);
  const size_t shared = stored ? call.windows.offsets() * threads * sizeof(float) : 0;
  return with_feature_dtype(q.dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
    return launch_blocks(stored ? forward_kernel<kType, true> : forward_kernel<kType, false>, call,
                         blocks_of(call.windows), threads, shared, stream);
  });
}

Status neighborhood_attention_backward(const TensorView& grad, const TensorView& q,
                                       const TensorView& k, const TensorView& v,
                                       const MaskView& mask, const MaskView& key_mask,
                                       const float* lse, int64_t window, int heads, float scale,
                                       float* inner, const TensorView& grad_q,
                                       const TensorView& grad_k, const TensorView& grad_v,
                                       void* stream) {
  Backward call{grad, q,        k,   v,     grad_q,         grad_k, grad_v,
                mask, key_mask, lse, inner, scale * kLog2E, scale,  {}};
  const Window to_keys = window_of(window);
  call.windows = windows_of(q, heads, to_keys, 1);
  bool stored = false;
  const int threads = threads_for(call.windows.offsets(), 2, stored);
  call.windows = windows_of(q, heads, to_keys, threads);
  const size_t shared = stored ? 2 * call.windows.offsets() * threads * sizeof(float) : 0;
  const int64_t blocks = blocks_of(call.windows);
  return with_feature_dtype(q.dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
    Status status = Status::ok;
    if (grad_q.data != nullptr || grad_k.data != nullptr) {
      status = launch_blocks(stored ? query_kernel<kType, true> : query_kernel<kType, false>, call,
                             blocks, threads, shared, stream);
    }
    if (status != Status::ok || (grad_k.data == nullptr && grad_v.data == nullptr)) return status;
    call.windows = windows_of(q, heads, mirrored(to_keys), threads);
    return launch_blocks(stored ? key_kernel<kType, true> : key_kernel<kType, false>, call, blocks,
                         threads, shared, stream);
  });
}

}  // namespace vharm::cuda
