// SPDX-License-Identifier: Apache-2.0
// The reverse of sampling: a run's gradients go to the taps they came from, in one band of rows.
//
// A tap's sum takes its terms in the order of the pixels (for a vector: of its groups of lanes
// that move alike), whichever rows the band holds; so how rows are shared out changes nothing.
#pragma once

#include "cpu/warp_sample.hpp"

namespace vharm {
namespace VHARM_ISA {

// A float32 gradient's plane, or interleaved group, and the rows [begin, end) that may be written.
struct Target {
  float* data;
  int64_t sh, sw;
  int64_t begin, end;
};

VHARM_HD float shares(float g, float f, float& near_tap) {
  const float far_tap = g * f;
  near_tap = g - far_tap;
  return far_tap;
}

// One pixel's gradients, cn of them side by side.
VHARM_HD void scatter_pixel(const Route& r, int i, const float* grad, int cn, const Target& to) {
  for (int row = 0; row < 2; ++row) {
    int y = r.y[i] + row;
    if (r.border) y = warp_clamp(y, r.h);
    if (y < to.begin || y >= to.end) continue;
    const float fy = r.fy[i], fx = r.fx[i];
    for (int column = 0; column < 2; ++column) {
      int x = r.x[i] + column;
      if (r.border) x = warp_clamp(x, r.w);
      if (x < 0 || x >= r.w) continue;
      float* p = to.data + y * to.sh + x * to.sw;
      for (int c = 0; c < cn; ++c) {
        float upper, left;
        const float lower = shares(grad[c], fy, upper);
        const float right = shares(row == 0 ? upper : lower, fx, left);
        p[c] += column == 0 ? left : right;
      }
    }
  }
}

#if defined(VHARM_ISA_avx512)
constexpr int kMaxMotions = 4;

// Three rows of 32 sums in registers; lanes that move alike are moved to their place together.
struct Sums {
  __m512 low[3], high[3];

  VHARM_HD Sums() {
    for (int k = 0; k < 3; ++k) low[k] = high[k] = _mm512_setzero_ps();
  }
  // Adds v, its lane 0 at `place` (0 to 16) of row k.
  VHARM_HD void add(int k, __m512 v, int place) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    // Lanes below 0 come out as 16 and more: the zero vector's.
    const __m512i to_low = _mm512_sub_epi32(lane, _mm512_set1_epi32(place));
    const __m512i to_high = _mm512_add_epi32(to_low, _mm512_set1_epi32(16));
    const __m512 zero = _mm512_setzero_ps();
    low[k] = _mm512_add_ps(low[k], _mm512_permutex2var_ps(v, to_low, zero));
    high[k] = _mm512_add_ps(high[k], _mm512_permutex2var_ps(v, to_high, zero));
  }
  VHARM_HD void flush(const Target& to, int64_t row, int64_t base, int64_t w) const {
    const __mmask16 a = columns(base, w), b = columns(base + 16, w);
    for (int k = 0; k < 3; ++k) {
      if (row + k < to.begin || row + k >= to.end) continue;
      float* p = to.data + (row + k) * to.sh + base;
      _mm512_mask_storeu_ps(p, a, _mm512_add_ps(_mm512_maskz_loadu_ps(a, p), low[k]));
      _mm512_mask_storeu_ps(p + 16, b, _mm512_add_ps(_mm512_maskz_loadu_ps(b, p + 16), high[k]));
    }
  }
};

// The lanes of a vector whose taps lie near each other; returns those that are left over.
inline __mmask16 scatter_near(const Route& r, int i, vf g, __mmask16 lanes, const Target& to) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i x = _mm512_sub_epi32(_mm512_loadu_si512(r.x + i), lane);
  const __m512i y = _mm512_loadu_si512(r.y + i);
  const vf lower = g * load(r.fy + i), upper = g - lower, fx = load(r.fx + i);
  const vf parts[2] = {upper, lower};
  const int64_t row = r.row[i / kWidth], base = r.x[i] - 8;
  __mmask16 left_over = 0;
  Sums sums;
  for (int k = 0; lanes != 0; ++k) {
    const int lead = __builtin_ctz(lanes), first = r.x[i + lead] - lead, top = r.y[i + lead];
    const __mmask16 alike = _mm512_mask_cmpeq_epi32_mask(lanes, x, _mm512_set1_epi32(first)) &
                            _mm512_mask_cmpeq_epi32_mask(lanes, y, _mm512_set1_epi32(top));
    lanes &= static_cast<__mmask16>(~alike);
    const int64_t place = first - base;
    if (k >= kMaxMotions || place < 0 || place > 15) {
      left_over |= alike;
      continue;
    }
    for (int half = 0; half < 2; ++half) {
      const vf right = parts[half] * fx, left = parts[half] - right;
      sums.add(int(top - row) + half, _mm512_maskz_mov_ps(alike, left.v), int(place));
      sums.add(int(top - row) + half, _mm512_maskz_mov_ps(alike, right.v), int(place) + 1);
    }
  }
  sums.flush(to, row, base, r.w);
  return left_over;
}
#endif

// A vector's gradients with more than one motion.
inline void scatter_lanes(const Route& r, int i, const float* grad, const Target& to) {
  const int count = r.count - i < kWidth ? r.count - i : kWidth;
#if defined(VHARM_ISA_avx512)
  const bool in =
      !r.border ||
      (all_between(vf(_mm512_cvtepi32_ps(_mm512_loadu_si512(r.x + i))), 0.0f, float(r.w - 2)) &&
       all_between(vf(_mm512_cvtepi32_ps(_mm512_loadu_si512(r.y + i))), 0.0f, float(r.h - 2)));
  if (r.motion[i / kWidth] == Motion::near && in) {
    const __m512i x = _mm512_loadu_si512(r.x + i);
    const __mmask16 reach = _mm512_cmpge_epi32_mask(x, _mm512_set1_epi32(-1)) &
                            _mm512_cmplt_epi32_mask(x, _mm512_set1_epi32(int(r.w)));
    const auto all = static_cast<__mmask16>(reach & ((1u << count) - 1u));
    __mmask16 left_over = scatter_near(r, i, load(grad + i), all, to);
    for (; left_over != 0; left_over &= static_cast<__mmask16>(left_over - 1)) {
      const int k = i + __builtin_ctz(left_over);
      scatter_pixel(r, k, grad + k, 1, to);
    }
    return;
  }
#endif
  for (int k = i; k < i + count; ++k) scatter_pixel(r, k, grad + k, 1, to);
}

// (carry, a0, a1, ...): a vector moved on by one lane.
VHARM_HD vf shift_in(float carry, vf a) {
#if defined(VHARM_ISA_avx512)
  const __m512 c = _mm512_set1_ps(carry);
  return _mm512_castsi512_ps(
      _mm512_alignr_epi32(_mm512_castps_si512(a.v), _mm512_castps_si512(c), 15));
#else
  alignas(64) float v[kWidth + 1];
  v[0] = carry;
  memcpy(v + 1, &a, sizeof a);
  return load(v);
#endif
}
VHARM_HD float last_lane(vf a) {
  alignas(64) float v[kWidth];
  store(v, a);
  return v[kWidth - 1];
}

// What the last pixel of a vector leaves at its right tap waits here: if the next vector moves
// alike, it is added in a register. Stores that the next load straddles would stall it.
struct Carry {
  float* at = nullptr;
  float value = 0;

  VHARM_HD float take(float* p) {
    if (at == p) {
      at = nullptr;
      return value;
    }
    flush();
    return 0;
  }
  VHARM_HD void flush() {
    if (at != nullptr) *at += value;
    at = nullptr;
  }
};

VHARM_HD void scatter_same(const Route& r, int i, vf g, const Target& to, Carry* carry) {
  const vf lower = g * load(r.fy + i), upper = g - lower, fx = load(r.fx + i);
  for (int row = 0; row < 2; ++row) {
    const int64_t y = r.y[i] + row;
    if (y < to.begin || y >= to.end) continue;
    float* p = to.data + y * to.sh + r.x[i];
    const vf half = row == 0 ? upper : lower, right = half * fx;
    const vf sums = (half - right) + shift_in(carry[row].take(p), right);
    store(p, load(p) + sums);
    carry[row] = {p + kWidth, last_lane(right)};
  }
}

// `grad` is padded with zeros.
inline void scatter_plane(const Route& r, const float* grad, const Target& to) {
  Carry carry[2];
  for (int i = 0; i < r.count; i += kWidth) {
    if (r.motion[i / kWidth] == Motion::same && i + kWidth <= r.count) {
      scatter_same(r, i, load(grad + i), to, carry);
      continue;
    }
    carry[0].flush();
    carry[1].flush();
    scatter_lanes(r, i, grad, to);
  }
  carry[0].flush();
  carry[1].flush();
}

// `grad` holds cn values a pixel, one pixel behind the other.
inline void scatter_pixels(const Route& r, const Spread& places, const float* grad, int cn,
                           const Target& to) {
  for (int i = 0; i < r.count; i += kWidth) {
    const bool whole = i + kWidth <= r.count;
    if (!(whole && r.motion[i / kWidth] == Motion::same && to.sw == cn && cn <= kMaxSpread)) {
      const int end = whole ? i + kWidth : r.count;
      for (int k = i; k < end; ++k) scatter_pixel(r, k, grad + k * cn, cn, to);
      continue;
    }
    const vf fx = load(r.fx + i), fy = load(r.fy + i);
    for (int row = 0; row < 2; ++row) {
      const int64_t y = r.y[i] + row;
      if (y < to.begin || y >= to.end) continue;
      float* p = to.data + y * to.sh + r.x[i] * to.sw;
      // Both taps' parts of the run, laid over each other one pixel apart.
      alignas(64) float parts[(kMaxSpread + 1) * kWidth + kMaxSpread] = {};
      for (int j = 0; j < cn; ++j) {
        const vf g = load(grad + i * cn + j * kWidth);
        const vf lower = g * spread(fy, places.lane[j]), half = row == 0 ? g - lower : lower;
        const vf right = half * spread(fx, places.lane[j]);
        store(parts + cn + j * kWidth, right);
        store(p + j * kWidth, load(p + j * kWidth) + (half - right));
      }
      for (int k = 0; k < cn; ++k) p[cn * kWidth + k] += parts[cn * kWidth + k];
      for (int j = 0; j < cn; ++j) {
        store(p + j * kWidth, load(p + j * kWidth) + load(parts + j * kWidth));
      }
    }
  }
}

// ---- the flow's gradient ------------------------------------------------------------------------

// Adds the planes' part to (gx, gy): the slopes of the cell, times the gradient.
template <class T>
inline void slope_planes(const Route& r, const T* plane, int64_t sc, int64_t sh, int planes,
                         const float* grad, float* gx, float* gy) {
  for (int i = 0; i < r.count; i += kWidth) {
    const vf fx = load(r.fx + i), fy = load(r.fy + i);
    vf sx = load(gx + i), sy = load(gy + i);
    each_corners(r, i, plane, sc, sh, planes, [&](int c, const Corners<vf>& t) {
      const vf g = load(grad + c * kSpan + i);
      sx = vfma(g, lerp(t.b - t.a, t.d - t.c, fy), sx);
      sy = vfma(g, lerp(t.c - t.a, t.d - t.b, fx), sy);
    });
    store(gx + i, sx);
    store(gy + i, sy);
  }
}

template <class T>
inline void slope_pixels(const Route& r, const T* image, int64_t sh, int64_t sw, const float* grad,
                         int cn, float* gx, float* gy) {
  for (int i = 0; i < r.count; ++i) {
    const float fx = r.fx[i], fy = r.fy[i];
    const int x = r.x[i], y = r.y[i];
    const bool in = x >= 0 && x + 1 < r.w && y >= 0 && y + 1 < r.h;
    const T* p = image + y * sh + x * sw;
    float sx = gx[i], sy = gy[i];
    for (int c = 0; c < cn; ++c) {
      const Corners<float> t = in ? Corners<float>{as_float(p[c]), as_float(p[c + sw]),
                                                   as_float(p[c + sh]), as_float(p[c + sh + sw])}
                                  : corners(r, i, image + c, sh, sw);
      const float g = grad[i * cn + c];
      sx += g * lerp(t.b - t.a, t.d - t.c, fy);
      sy += g * lerp(t.c - t.a, t.d - t.b, fx);
    }
    gx[i] = sx;
    gy[i] = sy;
  }
}

}  // namespace VHARM_ISA
}  // namespace vharm
