// SPDX-License-Identifier: Apache-2.0
// Neighbourhoods on the GPU: one thread per position and head, a warp along x, so that every load
// of a shifted row is coalesced and a window's rows come out of the first cache level.
//
// A thread's products with its window stand in shared memory, `[offset][thread]`, so that own
// channels can be taken in runs of kChannels that fit the registers. Where a window has too many
// offsets for that (more than 19 x 19 forward, 13 x 13 backward) products are made again whenever
// they are needed: right, and slow.
#pragma once

#include "cuda/attention.cuh"

namespace vharm::cuda {

struct Windows {
  int64_t n, h, w;
  int heads;
  Window y, x;  // clipped to the image
  int64_t blocks_per_row;

  VHARM_HD int64_t columns() const { return x.high - x.low + 1; }
  VHARM_HD int64_t offsets() const { return (y.high - y.low + 1) * columns(); }
  VHARM_HD int64_t row(int64_t image, int head, int64_t py, int64_t px) const {
    return ((image * heads + head) * h + py) * w + px;
  }
};

constexpr int64_t kSharedFloats = 12 * 1024;  // what every GPU gives a block

// Threads of a block, and whether `arrays` values per offset and thread fit.
inline int threads_for(int64_t offsets, int arrays, bool& stored) {
  for (int threads = 128; threads >= 32; threads /= 2) {
    stored = offsets * arrays * threads <= kSharedFloats;
    if (stored) return threads;
  }
  return 128;
}

inline Windows windows_of(const TensorView& q, int heads, Window window, int threads) {
  return {q.n,
          q.h,
          q.w,
          heads,
          clipped(window, q.h),
          clipped(window, q.w),
          (q.w + threads - 1) / threads};
}
inline int64_t blocks_of(const Windows& w) { return w.n * w.heads * w.h * w.blocks_per_row; }

struct Spot {
  int64_t n, y, x;
  int head;
};
__device__ inline Spot spot_of(const Windows& w) {
  int64_t block = blockIdx.x;
  Spot spot;
  spot.x = block % w.blocks_per_row * blockDim.x + threadIdx.x;
  block /= w.blocks_per_row;
  spot.y = block % w.h;
  block /= w.h;
  spot.head = static_cast<int>(block % w.heads);
  spot.n = block / w.heads;
  return spot;
}

// Calls body(offset's number, y, x) for the neighbours that exist and are set.
template <class Body>
__device__ void each_neighbour(const Windows& w, const MaskView& mask, const Spot& at,
                               const Body& body) {
  for (int64_t dy = w.y.low; dy <= w.y.high; ++dy) {
    const int64_t y = at.y + dy;
    if (y < 0 || y >= w.h) continue;
    for (int64_t dx = w.x.low; dx <= w.x.high; ++dx) {
      const int64_t x = at.x + dx;
      if (x < 0 || x >= w.w || !is_set(mask, at.n, y, x)) continue;
      body((dy - w.y.low) * w.columns() + (dx - w.x.low), y, x);
    }
  }
}

// The products of a position's channels with those of its neighbours.
template <DType kType, bool kStored>
struct Products {
  const TensorView &own, &other;
  const Windows& windows;
  const MaskView& mask;
  Spot at;
  int channels;
  float* stored;  // this thread's column

  __device__ int64_t own_offset() const {
    return offset_of(own, at.n, int64_t(at.head) * channels, at.y, at.x);
  }
  __device__ int64_t other_offset(int64_t y, int64_t x) const {
    return offset_of(other, at.n, int64_t(at.head) * channels, y, x);
  }

  __device__ void fill() const {
    if constexpr (kStored) {
      fill_stored();
    }
  }
  __device__ void fill_stored() const {
    for (int c = 0; c < channels; c += kChannels) {
      float mine[kChannels];
#pragma unroll
      for (int i = 0; i < kChannels; ++i) {
        mine[i] = c + i < channels ? read<kType>(own, own_offset() + (c + i) * own.sc) : 0.0f;
      }
      each_neighbour(windows, mask, at, [&](int64_t o, int64_t y, int64_t x) {
        const int64_t from = other_offset(y, x) + c * other.sc;
        float sum = c == 0 ? 0.0f : stored[o * blockDim.x];
#pragma unroll
        for (int i = 0; i < kChannels; ++i) {
          if (c + i < channels) sum = fmaf(mine[i], read<kType>(other, from + i * other.sc), sum);
        }
        stored[o * blockDim.x] = sum;
      });
    }
  }

  __device__ float get(int64_t o, int64_t y, int64_t x) const {
    if (kStored) return stored[o * blockDim.x];
    float sum = 0.0f;
    for (int c = 0; c < channels; ++c) {
      sum = fmaf(read<kType>(own, own_offset() + c * own.sc),
                 read<kType>(other, other_offset(y, x) + c * other.sc), sum);
    }
    return sum;
  }
};

// to = factor * sum over the neighbours of weight(o, y, x) times their channels.
template <DType kType, class Weight>
__device__ void weighted_sum(const Windows& windows, const MaskView& mask, const Spot& at,
                             const TensorView& from, int channels, float factor,
                             const TensorView& to, const Weight& weight) {
  for (int c = 0; c < channels; c += kChannels) {
    const int64_t first = int64_t(at.head) * channels + c;
    float sums[kChannels] = {};
    each_neighbour(windows, mask, at, [&](int64_t o, int64_t y, int64_t x) {
      const float share = weight(o, y, x);
      const int64_t offset = offset_of(from, at.n, first, y, x);
#pragma unroll
      for (int i = 0; i < kChannels; ++i) {
        if (c + i < channels)
          sums[i] = fmaf(share, read<kType>(from, offset + i * from.sc), sums[i]);
      }
    });
    const int64_t offset = offset_of(to, at.n, first, at.y, at.x);
#pragma unroll
    for (int i = 0; i < kChannels; ++i) {
      if (c + i < channels) write<kType>(to, offset + i * to.sc, sums[i] * factor);
    }
  }
}

template <DType kType>
__device__ void clear(const TensorView& to, int channels, const Spot& at) {
  const int64_t offset = offset_of(to, at.n, int64_t(at.head) * channels, at.y, at.x);
  for (int c = 0; c < channels; ++c) write<kType>(to, offset + c * to.sc, 0.0f);
}

}  // namespace vharm::cuda
