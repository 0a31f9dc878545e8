// SPDX-License-Identifier: Apache-2.0
// Where a run of pixels of one row samples from, and how alike its neighbours move.
#pragma once

#include "cpu/gather.hpp"
#include "cpu/pixels.hpp"
#include "vharm/warp.hpp"

namespace vharm {
namespace VHARM_ISA {

// What a vector of neighbouring pixels allows.
enum class Motion : uint8_t {
  same,    // one whole displacement, and every tap inside the frame: plain loads
  near,    // taps within three rows and a window of two vectors (AVX-512 only): permutations
  inside,  // anywhere, but every tap inside the frame
  any
};

struct alignas(64) Route {
  float fx[kSpan], fy[kSpan];  // the way to the second tap
  float inside[kSpan];         // 1 where the sample lies in the frame, else 0
  int32_t x[kSpan], y[kSpan];  // the first tap, from -2 to the size
  Motion motion[kSpan / kWidth];
  int32_t row[kSpan / kWidth];  // the window's first row
  int count;
  int64_t h, w;
  bool border;
};

VHARM_HD vf lanes() {
  alignas(64) float i[kWidth];
  for (int k = 0; k < kWidth; ++k) i[k] = float(k);
  return load(i);
}
VHARM_HD vf vfloor(vf a) {
#if defined(VHARM_ISA_avx512)
  return _mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#endif
  const vf t = vtrunc(a);
  return select(less(a, t), t - vf(1.0f), t);
}
VHARM_HD float first_lane(vf a) {
#if defined(VHARM_ISA_avx512)
  return _mm512_cvtss_f32(a.v);
#elif defined(VHARM_ISA_avx2)
  return _mm256_cvtss_f32(a.v);
#else
  return a.v[0];
#endif
}
VHARM_HD bool all_equal(vf a, float b) {
#if defined(VHARM_ISA_avx512)
  return _mm512_cmp_ps_mask(a.v, _mm512_set1_ps(b), _CMP_NEQ_UQ) == 0;
#else
  return !any(less(a, vf(b))) && !any(less(vf(b), a));
#endif
}
VHARM_HD bool all_between(vf a, float low, float high) {
  return !any(less(a, vf(low))) && !any(less(vf(high), a));
}
// Fused where the vectors are, so that a pixel's value does not depend on its neighbours.
VHARM_HD float lerp(float a, float b, float f) {
#if defined(VHARM_ISA_baseline)
  return f * (b - a) + a;
#else
  return __builtin_fmaf(f, b - a, a);
#endif
}
VHARM_HD vf lerp(vf a, vf b, vf f) { return vfma(f, b - a, a); }

// What the next row of pixels will most likely read or write, brought into the second level of the
// cache: the rows of many planes are more streams than the processor foresees. Never a fault.
VHARM_HD void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }
VHARM_HD void prefetch_write(const void* p) { __builtin_prefetch(p, 1, 2); }
VHARM_HD void prefetch(const float* p, int count) {
  for (int i = 0; i < count; i += 16) prefetch(p + i);
}
VHARM_HD void prefetch_write(const float* p, int count) {
  for (int i = 0; i < count; i += 16) prefetch_write(p + i);
}

// (dx, dy) of n pixels, the last one repeated up to a whole vector.
inline void load_flow(const TensorView& flow, int64_t n, int64_t y, int64_t x, int count, float* dx,
                      float* dy) {
  const float* p = static_cast<const float*>(flow.data) + n * flow.sn + y * flow.sh + x * flow.sw;
  if (flow.sw == 1) {
    prefetch(p + flow.sh, count);
    prefetch(p + flow.sc + flow.sh, count);
    memcpy(dx, p, size_t(count) * 4);
    memcpy(dy, p + flow.sc, size_t(count) * 4);
  } else if (flow.sw == 2 && flow.sc == 1) {
    int i = 0;
#if defined(VHARM_ISA_avx512)
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
    for (; i + kWidth <= count; i += kWidth) {
      const vf u = load(p + 2 * i), v = load(p + 2 * i + kWidth);
      store(dx + i, vf(_mm512_permutex2var_ps(u.v, even, v.v)));
      store(dy + i, vf(_mm512_permutex2var_ps(u.v, odd, v.v)));
    }
#endif
    for (; i < count; ++i) {
      dx[i] = p[2 * i];
      dy[i] = p[2 * i + 1];
    }
  } else {
    for (int i = 0; i < count; ++i) {
      dx[i] = p[i * flow.sw];
      dy[i] = p[i * flow.sw + flow.sc];
    }
  }
  for (int i = count; i < padded(count); ++i) {
    dx[i] = dx[count - 1];
    dy[i] = dy[count - 1];
  }
}

// Displacements to first taps (clamped, as floats) and ways; a NaN counts as minus infinity.
VHARM_HD vf split_flow(vf displacement, vf pixel, float size, vf& f) {
  const vf d = vmin(vmax(displacement, vf(-kFarFlow)), vf(kFarFlow));
  const vf whole = vfloor(d);
  f = d - whole;
  return vmin(vmax(whole + pixel, vf(-2.0f)), vf(size));
}

// Row m of the window such that all first taps lie in rows m and m + 1, and all columns within 8
// to the left and 22 to the right of the first lane's.
VHARM_HD bool is_near(vf x, vf y, float x0, float y0, const Route& r, int32_t& row) {
#if defined(VHARM_ISA_avx512)
  vf a = x, b = x + vf(1.0f);
  float first = x0;
  if (r.border) {
    const float last = float(r.w - 1);
    a = vmin(vmax(a, vf(0.0f)), vf(last));
    b = vmin(vmax(b, vf(0.0f)), vf(last));
    first = x0 < 0 ? 0 : (x0 < last ? x0 : last);
  }
  const float m = any(less(y, vf(y0))) ? y0 - 1.0f : y0;
  row = int32_t(m);
  return all_between(y, m, m + 1.0f) && all_between(a, first - 8.0f, first + 22.0f) &&
         all_between(b, first - 8.0f, first + 23.0f);
#else
  (void)x, (void)y, (void)x0, (void)y0, (void)r, (void)row;
  return false;
#endif
}

// The route of `count` pixels from (y, x) on. `dx`, `dy` are padded.
inline void make_route(const float* dx, const float* dy, int64_t y, int64_t x, int count, int64_t h,
                       int64_t w, bool border, Route& r) {
  r.count = count;
  r.h = h;
  r.w = w;
  r.border = border;
  const vf lane = lanes(), zero(0.0f), one(1.0f), yf(static_cast<float>(y));
  const float right = float(w - 1), bottom = float(h - 1);
  for (int i = 0; i < count; i += kWidth) {
    vf fx, fy;
    const vf tx = split_flow(load(dx + i), vf(float(x + i)) + lane, float(w), fx);
    const vf ty = split_flow(load(dy + i), yf, float(h), fy);
    store(r.fx + i, fx);
    store(r.fy + i, fy);
    store(r.x + i, to_index(tx));
    store(r.y + i, to_index(ty));
    const float x0 = first_lane(tx), y0 = first_lane(ty);
    if (x0 >= 0 && x0 + kWidth <= right && y0 >= 0 && y0 < bottom && all_equal(tx - lane, x0) &&
        all_equal(ty, y0)) {
      store(r.inside + i, one);
      r.motion[i / kWidth] = Motion::same;
      continue;
    }
    const vf last_x = tx + select(less(zero, fx), one, zero);
    const vf last_y = ty + select(less(zero, fy), one, zero);
    const vmask in = both(both(less_equal(zero, tx), less_equal(zero, ty)),
                          both(less_equal(last_x, vf(right)), less_equal(last_y, vf(bottom))));
    store(r.inside + i, select(in, one, zero));
    Motion motion = Motion::any;
    if (is_near(tx, ty, x0, y0, r, r.row[i / kWidth])) {
      motion = Motion::near;
    } else if (all_between(tx, 0.0f, right - 1.0f) && all_between(ty, 0.0f, bottom - 1.0f)) {
      motion = Motion::inside;
    }
    r.motion[i / kWidth] = motion;
  }
}

inline void route_span(const TensorView& flow, int64_t n, int64_t y, int64_t x, int count,
                       bool border, Route& r) {
  alignas(64) float dx[kSpan], dy[kSpan];
  load_flow(flow, n, y, x, count, dx, dy);
  make_route(dx, dy, y, x, count, flow.h, flow.w, border, r);
}

}  // namespace VHARM_ISA
}  // namespace vharm
