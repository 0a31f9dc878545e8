// SPDX-License-Identifier: Apache-2.0
// What the gates share: one thread per pixel, and soft masks.
#pragma once

#include "cuda/attention.cuh"

namespace vharm::cuda {

struct Pixel {
  int64_t n, y, x;
};
__device__ inline bool pixel_of(const TensorView& f, Pixel& p) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  p = {i / (f.h * f.w), i / f.w % f.h, i % f.w};
  return p.n < f.n;
}
__device__ inline int64_t offset_at(const TensorView& f, const Pixel& p) {
  return offset_of(f, p.n, 0, p.y, p.x);
}

// The gate: the sigmoid of two pixels' product over the channels, from their first samples.
template <DType kType>
__device__ float gate_between(const TensorView& a, int64_t from_a, const TensorView& b,
                              int64_t from_b) {
  float sum = 0.0f;
  for (int64_t c = 0; c < b.c; ++c) {
    sum = fmaf(read<kType>(a, from_a + c * a.sc), read<kType>(b, from_b + c * b.sc), sum);
  }
  return sigmoid(sum);
}

// The mask's sample, full scale to 1, not clamped.
__device__ inline float raw_mask(const MaskView& mask, const Pixel& p) {
  float sample = 0.0f;
  with_dtype(mask.dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
    const int64_t offset = p.n * mask.sn + p.y * mask.sh + p.x * mask.sw;
    sample = number<kType>(load_bits(mask.data, sample_size(kType), offset));
  });
  return sample / mask.white;
}

// A sample of the mask's gradient; the mask may have another dtype than the features.
__device__ inline void write_mask(const TensorView& mask, const Pixel& p, float value) {
  with_dtype(mask.dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
    store_bits(mask.data, sample_size(kType), offset_at(mask, p), encode<kType>(Real(value)));
  });
}

inline int64_t blocks_for(const TensorView& f) {
  return (f.n * f.h * f.w + kThreads - 1) / kThreads;
}

}  // namespace vharm::cuda
