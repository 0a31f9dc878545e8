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

// A group's planes, `step` apart, with their gradients kSpan apart.
struct Targets {
  Target first;
  int64_t step;
  int planes;

  VHARM_HD Target operator[](int k) const {
    return {first.data + k * step, first.sh, first.sw, first.begin, first.end};
  }
};

#if defined(VHARM_ISA_avx512)
constexpr int kMaxMotions = 4;

// How the lanes of a vector whose taps lie near each other are moved to their places in three rows
// of 32 sums, those that move alike together. Made once for all planes.
struct Moves {
  struct Move {
    __m512i to_low, to_high;  // what the sums take; 16 and more is the spill
    __mmask16 lanes;
    int row;
  };
  Move items[kMaxMotions];
  int count = 0;
  int64_t row, base;
  __mmask16 left_over = 0;  // lanes that are too far

  Moves(const Route& r, int i, __mmask16 lanes) : row(r.row[i / kWidth]), base(r.x[i] - 8) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i x = _mm512_sub_epi32(_mm512_loadu_si512(r.x + i), lane);
    const __m512i y = _mm512_loadu_si512(r.y + i);
    while (lanes != 0) {
      const int lead = __builtin_ctz(lanes), first = r.x[i + lead] - lead, top = r.y[i + lead];
      const __mmask16 alike = _mm512_mask_cmpeq_epi32_mask(lanes, x, _mm512_set1_epi32(first)) &
                              _mm512_mask_cmpeq_epi32_mask(lanes, y, _mm512_set1_epi32(top));
      lanes &= static_cast<__mmask16>(~alike);
      const int64_t place = first - base;
      if (count >= kMaxMotions || place < 0 || place > 15) {
        left_over |= alike;
        continue;
      }
      // Lanes below 0 come out as 17 and more: zeros, behind the spill's only value.
      const __m512i to_low = _mm512_sub_epi32(lane, _mm512_set1_epi32(int(place)));
      items[count++] = {to_low, _mm512_add_epi32(to_low, _mm512_set1_epi32(16)), alike,
                        int(top - row)};
    }
  }

  // What goes to one row: the left taps' shares, the right ones' moved on by one lane, and the last
  // of these, which spills.
  struct Shares {
    __m512 left, next, spill;
    VHARM_HD Shares(vf half, vf fx) {
      const vf right = half * fx;
      const __m512i bits = _mm512_castps_si512(right.v), none = _mm512_setzero_si512();
      left = (half - right).v;
      next = _mm512_castsi512_ps(_mm512_alignr_epi32(bits, none, 15));
      spill = _mm512_castsi512_ps(_mm512_alignr_epi32(none, bits, 15));
    }
  };
  static VHARM_HD void add(const Move& move, const Shares& s, __m512& low, __m512& high) {
    const __m512 kept = _mm512_maskz_mov_ps(move.lanes, s.left);
    const auto moved_on = static_cast<__mmask16>(move.lanes << 1);
    const __m512 sums = _mm512_mask_add_ps(kept, moved_on, kept, s.next);
    const __m512 rest = _mm512_maskz_mov_ps(static_cast<__mmask16>(move.lanes >> 15), s.spill);
    low = _mm512_add_ps(low, _mm512_permutex2var_ps(sums, move.to_low, rest));
    high = _mm512_add_ps(high, _mm512_permutex2var_ps(sums, move.to_high, rest));
  }

  // Adds a plane's shares.
  VHARM_HD void scatter(vf g, vf fx, vf fy, int64_t w, const Target& to) const {
    const __m512 zero = _mm512_setzero_ps();
    __m512 low[3] = {zero, zero, zero}, high[3] = {zero, zero, zero};
    const vf lower = g * fy;
    const Shares upper(g - lower, fx), under(lower, fx);
    for (int m = 0; m < count; ++m) {
      const Move& move = items[m];
      if (move.row == 0) {  // the sums stay in registers only if their numbers are constants
        add(move, upper, low[0], high[0]);
        add(move, under, low[1], high[1]);
      } else {
        add(move, upper, low[1], high[1]);
        add(move, under, low[2], high[2]);
      }
    }
    const __mmask16 a = columns(base, w), b = columns(base + 16, w);
#pragma GCC unroll 3
    for (int k = 0; k < 3; ++k) {
      if (row + k < to.begin || row + k >= to.end) continue;
      float* p = to.data + (row + k) * to.sh + base;
      _mm512_mask_storeu_ps(p, a, _mm512_add_ps(_mm512_maskz_loadu_ps(a, p), low[k]));
      _mm512_mask_storeu_ps(p + 16, b, _mm512_add_ps(_mm512_maskz_loadu_ps(b, p + 16), high[k]));
    }
  }
};

// Whether Moves can scatter the vector: no tap is clamped.
VHARM_HD bool moves(const Route& r, int i) {
  if (r.motion[i / kWidth] != Motion::near) return false;
  if (!r.border) return true;
  const auto floats = [](const int32_t* p) {
    return vf(_mm512_cvtepi32_ps(_mm512_loadu_si512(p)));
  };
  return all_between(floats(r.x + i), 0.0f, float(r.w - 2)) &&
         all_between(floats(r.y + i), 0.0f, float(r.h - 2));
}
#endif

// A vector's gradients with more than one motion.
inline void scatter_lanes(const Route& r, int i, const float* grad, const Targets& to) {
  const int count = r.count - i < kWidth ? r.count - i : kWidth;
#if defined(VHARM_ISA_avx512)
  if (moves(r, i)) {
    const __m512i x = _mm512_loadu_si512(r.x + i);
    const __mmask16 reach = _mm512_cmpge_epi32_mask(x, _mm512_set1_epi32(-1)) &
                            _mm512_cmplt_epi32_mask(x, _mm512_set1_epi32(int(r.w)));
    const Moves found(r, i, static_cast<__mmask16>(reach & ((1u << count) - 1u)));
    const vf fx = load(r.fx + i), fy = load(r.fy + i);
    for (int c = 0; c < to.planes; ++c) {
      found.scatter(load(grad + c * kSpan + i), fx, fy, r.w, to[c]);
      __mmask16 rest = found.left_over;
      for (; rest != 0; rest &= static_cast<__mmask16>(rest - 1)) {
        const int k = i + __builtin_ctz(rest);
        scatter_pixel(r, k, grad + c * kSpan + k, 1, to[c]);
      }
    }
    return;
  }
#endif
  for (int c = 0; c < to.planes; ++c) {
    for (int k = i; k < i + count; ++k) scatter_pixel(r, k, grad + c * kSpan + k, 1, to[c]);
  }
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

VHARM_HD bool is_even(const Route& r) {
  for (int i = 0; i < r.count; i += kWidth) {
    const Motion motion = r.motion[i / kWidth];
    if (motion != Motion::same && motion != Motion::near) return false;
  }
  return true;
}

// `grad` is padded with zeros. All planes of a vector come before the next vector: what one has
// stored is then out of the store buffer when the next one's sums overlap it. Pixels that go
// anywhere keep to one plane at a time: three planes at once are more than the cache holds.
inline void scatter_planes(const Route& r, const float* grad, const Targets& to) {
  if (to.planes > 1 && !is_even(r)) {
    for (int c = 0; c < to.planes; ++c) scatter_planes(r, grad + c * kSpan, {to[c], 0, 1});
    return;
  }
  Carry carry[kMaxPlanes][2];
  const auto flush = [&] {
    for (auto& rows : carry) {
      rows[0].flush();
      rows[1].flush();
    }
  };
  for (int i = 0; i < r.count; i += kWidth) {
    if (r.motion[i / kWidth] == Motion::same && i + kWidth <= r.count) {
      for (int c = 0; c < to.planes; ++c) {
        scatter_same(r, i, load(grad + c * kSpan + i), to[c], carry[c]);
      }
      continue;
    }
    flush();
    scatter_lanes(r, i, grad, to);
  }
  flush();
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
