// SPDX-License-Identifier: Apache-2.0
// Taps and samples along a Route, from planar rows and from interleaved pixels.
//
// First down, then to the right, fused alike in vectors and in single pixels: a value does not
// depend on how the pixels around it move.
#pragma once

#include "cpu/patch_rows.hpp"
#include "cpu/warp_route.hpp"

namespace vharm {
namespace VHARM_ISA {

struct F16 {
  uint16_t bits;
};
struct BF16 {
  uint16_t bits;
};

VHARM_HD float as_float(float v) { return v; }
VHARM_HD float as_float(uint8_t v) { return float(v); }
VHARM_HD float as_float(uint16_t v) { return float(v); }
VHARM_HD float as_float(F16 v) { return from_f16(v.bits); }
VHARM_HD float as_float(BF16 v) { return from_bf16(v.bits); }

VHARM_HD vf load_as(const float* p) { return load(p); }
VHARM_HD vf load_as(const uint8_t* p) { return load_u8(p); }
VHARM_HD vf load_as(const uint16_t* p) { return load_u16(p); }
#if defined(VHARM_ISA_avx512)
VHARM_HD vf load_as(const F16* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
VHARM_HD vf load_as(const BF16* p) {
  const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16));
}
// Lanes without their bit are zero, and their memory is not touched.
VHARM_HD vf load_some(const float* p, __mmask16 m) { return _mm512_maskz_loadu_ps(m, p); }
VHARM_HD vf load_some(const uint8_t* p, __mmask16 m) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, p)));
}
VHARM_HD vf load_some(const uint16_t* p, __mmask16 m) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)));
}
VHARM_HD vf load_some(const F16* p, __mmask16 m) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
}
VHARM_HD vf load_some(const BF16* p, __mmask16 m) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16));
}
#elif defined(VHARM_ISA_avx2)
VHARM_HD vf load_as(const F16* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
VHARM_HD vf load_as(const BF16* p) {
  const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(raw), 16));
}
#else
template <class T>
VHARM_HD vf load_as(const T* p) {
  return native_vf{as_float(p[0]), as_float(p[1]), as_float(p[2]), as_float(p[3])};
}
#endif

template <class F>
struct Corners {
  F a, b, c, d;  // upper left and right, lower left and right
};
template <class F>
VHARM_HD F mix(const Corners<F>& t, F fx, F fy) {
  return lerp(lerp(t.a, t.c, fy), lerp(t.b, t.d, fy), fx);
}

// The pixel at (x, y), or what stands for it outside the frame. `sw` is the step along a row.
template <class T>
VHARM_HD float tap(const Route& r, const T* plane, int64_t sh, int64_t sw, int x, int y) {
  if (r.border) {
    return as_float(plane[warp_clamp(y, r.h) * sh + warp_clamp(x, r.w) * sw]);
  }
  const bool in = x >= 0 && x < r.w && y >= 0 && y < r.h;
  return in ? as_float(plane[y * sh + x * sw]) : 0.0f;
}
template <class T>
VHARM_HD Corners<float> corners(const Route& r, int i, const T* plane, int64_t sh, int64_t sw) {
  const int x = r.x[i], y = r.y[i];
  return {tap(r, plane, sh, sw, x, y), tap(r, plane, sh, sw, x + 1, y),
          tap(r, plane, sh, sw, x, y + 1), tap(r, plane, sh, sw, x + 1, y + 1)};
}

constexpr int kMaxPlanes = 4;  // handled at a time

// ---- planar -------------------------------------------------------------------------------------

#if defined(VHARM_ISA_avx512)
VHARM_HD __mmask16 columns(int64_t first, int64_t w) {
  const int64_t low = first < 0 ? -first : 0, high = w - first < 16 ? w - first : 16;
  if (low >= high) return 0;
  return static_cast<__mmask16>(((1u << high) - 1u) & ~((1u << low) - 1u));
}

// Three rows of 32 samples hold every tap; a row outside the frame is zero, or the nearest row.
struct Window {
  __m512i left, right;     // places of the taps in the window
  __mmask16 m0[3], m1[3];  // what of its rows is read
  __mmask16 below;         // lanes whose first tap is in the second row
  int64_t at[3];           // its rows in the plane

  Window(const Route& r, int i, int64_t sh) {
    left = _mm512_loadu_si512(r.x + i);
    right = _mm512_add_epi32(left, _mm512_set1_epi32(1));
    int64_t base = r.x[i];
    if (r.border) {
      const __m512i zero = _mm512_setzero_si512(), last = _mm512_set1_epi32(int(r.w - 1));
      left = _mm512_min_epi32(_mm512_max_epi32(left, zero), last);
      right = _mm512_min_epi32(_mm512_max_epi32(right, zero), last);
      base = warp_clamp(int(base), r.w);
    }
    base -= 8;
    const __m512i origin = _mm512_set1_epi32(int(base));
    left = _mm512_sub_epi32(left, origin);
    right = _mm512_sub_epi32(right, origin);
    const __mmask16 c0 = columns(base, r.w), c1 = columns(base + 16, r.w);
    const int row = r.row[i / kWidth];
    for (int k = 0; k < 3; ++k) {
      const bool reads = r.border || (row + k >= 0 && row + k < r.h);
      m0[k] = reads ? c0 : 0;
      m1[k] = reads ? c1 : 0;
      at[k] = warp_clamp(row + k, r.h) * sh + base;
    }
    below = _mm512_cmpneq_epi32_mask(_mm512_loadu_si512(r.y + i), _mm512_set1_epi32(row));
  }

  template <class T>
  VHARM_HD void read(const T* plane, int k, __m512& a, __m512& b) const {
    const T* p = plane + at[k];
    const vf u = load_some(p, m0[k]), v = load_some(p + 16, m1[k]);
    a = _mm512_permutex2var_ps(u.v, left, v.v);
    b = _mm512_permutex2var_ps(u.v, right, v.v);
  }

  template <class T>
  VHARM_HD Corners<vf> corners(const T* plane) const {
    __m512 a, b, c, d;
    read(plane, 0, a, b);
    read(plane, 1, c, d);
    if (below == 0) return {a, b, c, d};
    __m512 e, f;
    read(plane, 2, e, f);
    return {_mm512_mask_blend_ps(below, a, c), _mm512_mask_blend_ps(below, b, d),
            _mm512_mask_blend_ps(below, c, e), _mm512_mask_blend_ps(below, d, f)};
  }
};
#endif

#if !defined(VHARM_ISA_baseline)
// Every tap inside; offsets in the plane fit 32 bits.
VHARM_HD Corners<vf> gathered(const Route& r, int i, const float* plane, int64_t sh) {
#if defined(VHARM_ISA_avx512)
  const __m512i y = _mm512_loadu_si512(r.y + i), x = _mm512_loadu_si512(r.x + i);
  const vindex at{_mm512_add_epi32(_mm512_mullo_epi32(y, _mm512_set1_epi32(int(sh))), x)};
#else
  const auto ints = [](const int32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  };
  const vindex at{_mm256_add_epi32(_mm256_mullo_epi32(ints(r.y + i), _mm256_set1_epi32(int(sh))),
                                   ints(r.x + i))};
#endif
  return {gather(plane, at), gather(plane + 1, at), gather(plane + sh, at),
          gather(plane + sh + 1, at)};
}
#endif

template <class T>
inline Corners<vf> lane_corners(const Route& r, int i, const T* plane, int64_t sh) {
  alignas(64) float v[4][kWidth];
  for (int k = 0; k < kWidth; ++k) {
    const Corners<float> t = corners(r, i + k, plane, sh, 1);
    v[0][k] = t.a;
    v[1][k] = t.b;
    v[2][k] = t.c;
    v[3][k] = t.d;
  }
  return {load(v[0]), load(v[1]), load(v[2]), load(v[3])};
}
template <class T>
VHARM_HD Corners<vf> far_corners(const Route& r, int i, const T* plane, int64_t sh) {
  return lane_corners(r, i, plane, sh);
}
#if !defined(VHARM_ISA_baseline)
VHARM_HD Corners<vf> far_corners(const Route& r, int i, const float* plane, int64_t sh) {
  const bool fits = r.motion[i / kWidth] == Motion::inside && sh >= 0 && r.h * sh < 0x7fffffff;
  return fits ? gathered(r, i, plane, sh) : lane_corners(r, i, plane, sh);
}
#endif

// Calls body(c, corners) for a vector's taps in each of `planes` planes, `sc` apart.
template <class T, class Body>
VHARM_HD void each_corners(const Route& r, int i, const T* plane, int64_t sc, int64_t sh,
                           int planes, const Body& body) {
  const Motion motion = r.motion[i / kWidth];
  if (motion == Motion::same || motion == Motion::near) {
    for (int c = 0; c < planes; ++c) prefetch(plane + c * sc + (r.y[i] + 2) * sh + r.x[i]);
  }
  if (motion == Motion::same) {
    const T* p = plane + r.y[i] * sh + r.x[i];
    for (int c = 0; c < planes; ++c, p += sc) {
      body(c, Corners<vf>{load_as(p), load_as(p + 1), load_as(p + sh), load_as(p + sh + 1)});
    }
    return;
  }
#if defined(VHARM_ISA_avx512)
  if (motion == Motion::near) {
    const Window window(r, i, sh);
    for (int c = 0; c < planes; ++c) body(c, window.corners(plane + c * sc));
    return;
  }
#endif
  for (int c = 0; c < planes; ++c) body(c, far_corners(r, i, plane + c * sc, sh));
}

// r.count samples of each plane, to planes `step` apart; whole vectors are written, also beyond,
// unless `exact`; with `stream` past the cache, and then `out` and `step` are aligned to vectors.
template <class T>
inline void sample_planes(const Route& r, const T* plane, int64_t sc, int64_t sh, int planes,
                          bool exact, float* out, int64_t step, bool stream = false) {
  for (int i = 0; i < r.count; i += kWidth) {
    const vf fx = load(r.fx + i), fy = load(r.fy + i);
    const bool part = exact && i + kWidth > r.count;
    each_corners(r, i, plane, sc, sh, planes, [&](int c, const Corners<vf>& t) {
      const vf v = mix(t, fx, fy);
      float* to = out + c * step + i;
      if (part) {
        alignas(64) float last[kWidth];
        store(last, v);
        memcpy(to, last, size_t(r.count - i) * 4);
      } else {
        put(to, v, stream);
      }
    });
  }
}

// ---- interleaved --------------------------------------------------------------------------------

constexpr int kMaxGroup = 64;  // channels handled at a time
constexpr int kPacked = 4096;  // samples of a run of interleaved pixels
constexpr int kMaxSpread = 4;  // channels up to which a row counts as one long plane

// Lane of the pixel that each sample of up to four vectors of interleaved samples belongs to.
struct Spread {
  alignas(64) int32_t lane[kMaxSpread][kWidth];
  explicit Spread(int channels) {
    for (int j = 0; j < kMaxSpread; ++j) {
      for (int k = 0; k < kWidth; ++k) lane[j][k] = (j * kWidth + k) / channels % kWidth;
    }
  }
};
VHARM_HD vf spread(vf v, const int32_t* lane) {
#if defined(VHARM_ISA_avx512)
  return _mm512_permutexvar_ps(_mm512_load_si512(lane), v.v);
#elif defined(VHARM_ISA_avx2)
  return _mm256_permutevar8x32_ps(v.v, _mm256_load_si256(reinterpret_cast<const __m256i*>(lane)));
#else
  return native_vf{v.v[lane[0]], v.v[lane[1]], v.v[lane[2]], v.v[lane[3]]};
#endif
}

#if !defined(VHARM_ISA_baseline)
VHARM_HD __m256 load8(const float* p) { return _mm256_loadu_ps(p); }
VHARM_HD __m256 load8(const uint8_t* p) {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
VHARM_HD __m256 load8(const uint16_t* p) {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
VHARM_HD __m256 load8(const F16* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
VHARM_HD __m256 load8(const BF16* p) {
  const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(raw), 16));
}

// Three or four channels: both taps of a row are one load. Reads 8 samples from p and writes 4.
template <int kChannels, class T>
VHARM_HD void sample_pair(const T* p, int64_t sh, float fx, float fy, float* out) {
  const __m256 top = load8(p), bottom = load8(p + sh);
  const __m256 v = _mm256_fmadd_ps(_mm256_set1_ps(fy), _mm256_sub_ps(bottom, top), top);
  const __m128 left = _mm256_castps256_ps128(v);
  __m128 right;
  if (kChannels == 4) {
    right = _mm256_extractf128_ps(v, 1);
  } else {
    const __m256i next = _mm256_setr_epi32(3, 4, 5, 6, 7, 7, 7, 7);
    right = _mm256_castps256_ps128(_mm256_permutevar8x32_ps(v, next));
  }
  _mm_storeu_ps(out, _mm_fmadd_ps(_mm_set1_ps(fx), _mm_sub_ps(right, left), left));
}
#endif

template <class T>
VHARM_HD void sample_pixel(const Route& r, int i, const T* image, int64_t sh, int64_t sw, int cn,
                           float* out) {
  const int x = r.x[i], y = r.y[i];
  const float fx = r.fx[i], fy = r.fy[i];
  int c = 0;
  if (x >= 0 && x + 1 < r.w && y >= 0 && y + 1 < r.h) {
    const T* p = image + y * sh + x * sw;
#if !defined(VHARM_ISA_baseline)
    if (sw == cn && i + 1 < r.count) {
      if (cn == 3 && x + 2 < r.w) return sample_pair<3>(p, sh, fx, fy, out);
      if (cn == 4) return sample_pair<4>(p, sh, fx, fy, out);
    }
#endif
    for (; c + kWidth <= cn; c += kWidth) {
      const T* q = p + c;
      const Corners<vf> t{load_as(q), load_as(q + sw), load_as(q + sh), load_as(q + sh + sw)};
      store(out + c, mix(t, vf(fx), vf(fy)));
    }
    for (; c < cn; ++c) {
      const T* q = p + c;
      const Corners<float> t{as_float(q[0]), as_float(q[sw]), as_float(q[sh]),
                             as_float(q[sh + sw])};
      out[c] = mix(t, fx, fy);
    }
    return;
  }
  for (; c < cn; ++c) out[c] = mix(corners(r, i, image + c, sh, sw), fx, fy);
}

// r.count pixels of cn channels, one behind the other; nothing beyond is written.
template <class T>
inline void sample_pixels(const Route& r, const Spread& places, const T* image, int64_t sh,
                          int64_t sw, int cn, float* out) {
  for (int i = 0; i < r.count; i += kWidth) {
    const bool whole = i + kWidth <= r.count;
    if (whole && r.motion[i / kWidth] == Motion::same && sw == cn && cn <= kMaxSpread) {
      const T* p = image + r.y[i] * sh + r.x[i] * sw;
      const vf fx = load(r.fx + i), fy = load(r.fy + i);
      for (int j = 0; j < cn; ++j, p += kWidth) {
        const Corners<vf> t{load_as(p), load_as(p + cn), load_as(p + sh), load_as(p + sh + cn)};
        store(out + i * cn + j * kWidth,
              mix(t, spread(fx, places.lane[j]), spread(fy, places.lane[j])));
      }
      continue;
    }
    const int end = whole ? i + kWidth : r.count;
    for (int k = i; k < end; ++k) sample_pixel(r, k, image, sh, sw, cn, out + k * cn);
  }
}

}  // namespace VHARM_ISA
}  // namespace vharm
