// SPDX-License-Identifier: Apache-2.0
// What the warps' kernels share: kinds of layout, runs of pixels, and samples of any dtype.
#pragma once

#include "cpu/warp_sample.hpp"
#include "runtime/parallel.hpp"

namespace vharm {
namespace VHARM_ISA {

constexpr int64_t kRowsPerTask = 16;

// Interleaved: the channels of a pixel lie side by side. Otherwise the pixels of a row do.
VHARM_HD bool interleaved(const TensorView& v) { return v.sw != 1; }
VHARM_HD bool known_layout(const TensorView& v) {
  return v.data == nullptr || v.sw == 1 || (v.sc == 1 && v.sw >= v.c);
}
VHARM_HD bool too_large(const TensorView& v) { return v.h >= kMaxWarpSize || v.w >= kMaxWarpSize; }

VHARM_HD int64_t row_of(const TensorView& v, int64_t n, int64_t y, int64_t x) {
  return n * v.sn + y * v.sh + x * v.sw;
}

template <class P>
struct Pointee;
template <class T>
struct Pointee<const T*> {
  using type = T;
};

// Calls body(tag), tag a null pointer to the sample's type.
template <class Body>
VHARM_HD void with_samples(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::u8:
      return body(static_cast<const uint8_t*>(nullptr));
    case DType::u16:
      return body(static_cast<const uint16_t*>(nullptr));
    case DType::f16:
      return body(static_cast<const F16*>(nullptr));
    case DType::bf16:
      return body(static_cast<const BF16*>(nullptr));
    case DType::f32:
      return body(static_cast<const float*>(nullptr));
  }
}

// A group of channels whose samples of a run fit one buffer: up to kMaxPlanes planes, kSpan samples
// apart in the buffer, or up to kMaxGroup channels of interleaved pixels.
struct Group {
  int64_t first;
  int count;            // channels
  int planes, samples;  // planes in the buffer, and samples of each that belong to a pixel
};
VHARM_HD int group_size(const TensorView& v) {
  if (!interleaved(v)) return v.c < kMaxPlanes ? int(v.c) : kMaxPlanes;
  return v.c < kMaxGroup ? int(v.c) : kMaxGroup;
}
VHARM_HD Spread spread_of(const TensorView& v) {
  const int size = group_size(v);
  return Spread(size < 1 || size > kMaxSpread ? 1 : size);
}
VHARM_HD int run_length(const TensorView& v) {
  if (!interleaved(v) || v.c == 0) return kSpan;
  const int fit = kPacked / group_size(v);
  return fit < kSpan ? fit : kSpan;
}
template <class Body>
VHARM_HD void each_group(const TensorView& v, const Body& body) {
  const int size = group_size(v);
  for (int64_t c = 0; c < v.c; c += size) {
    const int count = v.c - c < size ? int(v.c - c) : size;
    body(interleaved(v) ? Group{c, count, 1, count} : Group{c, count, count, 1});
  }
}
// Calls body(x, count) for the runs of a row.
template <class Body>
VHARM_HD void each_run(int64_t w, int length, const Body& body) {
  for (int64_t x = 0; x < w; x += length) body(x, w - x < length ? int(w - x) : length);
}

// A group's samples along a route.
template <class T>
VHARM_HD void sample_group(const Route& r, const Spread& places, const TensorView& image, int64_t n,
                           const Group& g, float* out) {
  const T* p = static_cast<const T*>(image.data) + n * image.sn + g.first * image.sc;
  if (interleaved(image)) {
    sample_pixels(r, places, p, image.sh, image.sw, g.count, out);
  } else {
    sample_planes(r, p, image.sc, image.sh, g.planes, false, out, kSpan);
  }
}

// The group's own samples of a run, as they are, padded with zeros to a whole vector.
VHARM_HD void load_group(const TensorView& v, int64_t n, int64_t y, int64_t x, int count,
                         const Group& g, float* out) {
  const char* p =
      at(static_cast<const void*>(v.data), v.dtype, row_of(v, n, y, x) + g.first * v.sc);
  const int size = sample_size(v.dtype);
  if (!interleaved(v) || v.sw == g.count) {
    for (int k = 0; k < g.planes; ++k) {
      const char* next = p + (k * v.sc + v.sh) * size;
      for (int i = 0; i < count * g.samples * size; i += 64) prefetch(next + i);
      load_plane(p + k * v.sc * size, v.dtype, 1, count * g.samples, 1.0f, out + k * kSpan);
    }
    return;
  }
  for (int i = 0; i < count; ++i, p += v.sw * size) {
    alignas(64) float pixel[kMaxGroup + kWidth];
    load_plane(p, v.dtype, 1, g.count, 1.0f, pixel);
    memcpy(out + i * g.count, pixel, size_t(g.count) * 4);
  }
  for (int i = count * g.count; i < padded(count * g.count); ++i) out[i] = 0;
}

// `values` is padded; integers are rounded half to even.
inline void store_group(const float* values, const TensorView& v, int64_t n, int64_t y, int64_t x,
                        int count, const Group& g) {
  char* p = at(v.data, v.dtype, row_of(v, n, y, x) + g.first * v.sc);
  const float top = v.dtype == DType::u8 ? 255.0f : 65535.0f;
  const int size = sample_size(v.dtype);
  if (interleaved(v) && v.sw != g.count) {
    for (int i = 0; i < count; ++i, p += v.sw * size) {
      alignas(64) float pixel[kMaxGroup + kWidth];
      memcpy(pixel, values + i * g.count, size_t(g.count) * 4);
      store_plane(pixel, p, v.dtype, 1, g.count, 1.0f, 0.0f, top);
    }
    return;
  }
  const int total = count * g.samples;
  for (int k = 0; k < g.planes; ++k) {
    for (int i = 0; i < total; i += kSpan) {  // store_plane's own limit
      const int some = total - i < kSpan ? total - i : kSpan;
      store_plane(values + k * kSpan + i, p + (k * v.sc + i) * size, v.dtype, 1, some, 1.0f, 0.0f,
                  top);
    }
  }
}

// Whether a mask touches a run at all: cheaper to know than where the run leads.
inline bool masked(const MaskView& mask, int64_t n, int64_t y, int64_t x, int count) {
  alignas(64) float values[kSpan];
  const MaskSpan m = load_mask(mask, n * mask.sn + y * mask.sh + x * mask.sw, count, values);
  return m.begin < m.end;
}

// w = mask * valid where the sample lies in the frame, else 0; false if all of it is 0.
inline bool load_weight(const MaskView& mask, const MaskView& valid, int64_t n, int64_t y,
                        int64_t x, const Route& r, float* w) {
  const auto offset = [&](const MaskView& v) { return n * v.sn + y * v.sh + x * v.sw; };
  const MaskSpan touched = load_mask(mask, offset(mask), r.count, w);
  if (touched.begin == touched.end) return false;
  alignas(64) float v[kSpan];
  const bool partial = valid.data != nullptr;
  if (partial) load_mask(valid, offset(valid), r.count, v);
  bool some = false;
  for (int i = 0; i < r.count; i += kWidth) {
    vf k = load(w + i) * load(r.inside + i);
    if (partial) k = k * load(v + i);
    store(w + i, k);
    some = some || any(less(vf(0.0f), k));
  }
  for (int i = r.count; i < padded(r.count); ++i) w[i] = 0;
  return some;
}

}  // namespace VHARM_ISA
}  // namespace vharm
