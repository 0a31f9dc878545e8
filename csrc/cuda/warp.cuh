// SPDX-License-Identifier: Apache-2.0
// What the warps' kernels share: one thread to a pixel, which goes through the channels.
//
// Threads of a warp are neighbours in a row: flows, planar images and outputs are read and written
// in whole lines, and taps likewise where the flow is smooth. Interleaved pixels of a few channels
// share their lines in the first cache level.
#pragma once

#include "cuda/launch.cuh"
#include "vharm/warp.hpp"

namespace vharm::cuda {

VHARM_HD int64_t place_of(const TensorView& v, int64_t n, int64_t y, int64_t x) {
  return n * v.sn + y * v.sh + x * v.sw;
}

template <DType kType>
VHARM_HD float read(const TensorView& v, int64_t at) {
  return number<kType>(load_bits(v.data, sample_size(kType), at));
}
// A number in the sample's own scale.
template <DType kType>
VHARM_HD void write(const TensorView& v, int64_t at, float value) {
  constexpr float scale = 1.0f / kFullScale<kType>;
  store_bits(v.data, sample_size(kType), at, encode<kType>(Real(value * scale)));
}

struct Taps {
  WarpTap x, y;
  float dx, dy;
  int64_t h, w;

  VHARM_HD bool inside() const { return warp_inside(x, w) && warp_inside(y, h); }
};

VHARM_HD Taps taps_of(const TensorView& flow, int64_t n, int64_t y, int64_t x) {
  const auto* p = static_cast<const float*>(flow.data) + place_of(flow, n, y, x);
  const float dx = p[0], dy = p[flow.sc];
  return {warp_tap(dx, x, flow.w), warp_tap(dy, y, flow.h), dx, dy, flow.h, flow.w};
}

// Offsets of the four taps in a plane, -1 for those that count as 0.
struct Places {
  int64_t at[4];  // upper left and right, lower left and right
};
VHARM_HD Places places_of(const Taps& t, const TensorView& v, bool border) {
  Places p;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    int x = t.x.at + k % 2, y = t.y.at + k / 2;
    if (border) {
      x = warp_clamp(x, t.w);
      y = warp_clamp(y, t.h);
    }
    const bool in = x >= 0 && x < t.w && y >= 0 && y < t.h;
    p.at[k] = in ? y * v.sh + x * v.sw : -1;
  }
  return p;
}

struct Square {
  float v[4];

  VHARM_HD float mixed(const Taps& t) const {
    const float left = v[0] + t.y.f * (v[2] - v[0]), right = v[1] + t.y.f * (v[3] - v[1]);
    return left + t.x.f * (right - left);
  }
  VHARM_HD float slope_x(const Taps& t) const {
    const float upper = v[1] - v[0];
    return upper + t.y.f * ((v[3] - v[2]) - upper);
  }
  VHARM_HD float slope_y(const Taps& t) const {
    const float left = v[2] - v[0];
    return left + t.x.f * ((v[3] - v[1]) - left);
  }
};
// `plane`: the offset of the image's and channel's first sample. Strides are not negative.
template <DType kType>
VHARM_HD Square square(const TensorView& v, int64_t plane, const Places& p) {
  Square s;
#pragma unroll
  for (int k = 0; k < 4; ++k) s.v[k] = p.at[k] < 0 ? 0.0f : read<kType>(v, plane + p.at[k]);
  return s;
}

static __device__ __forceinline__ void scatter(const TensorView& to, int64_t plane, const Places& p,
                                               const Taps& t, float g) {
  const float lower = g * t.y.f, upper = g - lower;
  const float parts[4] = {upper - upper * t.x.f, upper * t.x.f, lower - lower * t.x.f,
                          lower * t.x.f};
  auto* data = static_cast<float*>(to.data) + plane;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (p.at[k] >= 0) atomicAdd(data + p.at[k], parts[k]);
  }
}

inline bool is_empty(const TensorView& v) { return v.n == 0 || v.h == 0 || v.w == 0; }
inline bool is_too_large(const TensorView& v) { return v.h >= kMaxWarpSize || v.w >= kMaxWarpSize; }

// One thread to a pixel, no thread twice.
inline Walk pixel_walk(const TensorView& v) {
  Walk walk = make_walk(v.h, v.w, 1);
  const int64_t chunks = (walk.groups + kThreads - 1) / kThreads;
  walk.blocks = static_cast<int>(chunks < 0x7fffffff ? chunks : 0x7fffffff);
  return walk;
}

// Sets a dense float32 gradient to zero, on the stream.
inline Status clear(const TensorView& v, void* stream) {
  if (v.data == nullptr) return Status::ok;
  const size_t bytes = sizeof(float) * size_t(v.n) * size_t(v.c) * size_t(v.h) * size_t(v.w);
  return report(cudaMemsetAsync(v.data, 0, bytes, static_cast<cudaStream_t>(stream)));
}

// Returns select(Known<dtype>{}).
template <class Select>
Status with_samples(DType dtype, const Select& select) {
  switch (dtype) {
    case DType::u8:
      return select(Known<DType::u8>{});
    case DType::u16:
      return select(Known<DType::u16>{});
    case DType::f16:
      return select(Known<DType::f16>{});
    case DType::bf16:
      return select(Known<DType::bf16>{});
    case DType::f32:
      return select(Known<DType::f32>{});
  }
  return Status::unsupported;
}

}  // namespace vharm::cuda
