// SPDX-License-Identifier: Apache-2.0
// One row of a patch: three planes to interleaved samples and back, and copies past the cache.
#pragma once

#include "cpu/pixels.hpp"

namespace vharm {
namespace VHARM_ISA {

#if !defined(VHARM_ISA_baseline)
// Lane i of vector k of the interleaved run is sample `lane` of plane `source`; and the other way
// round, lane i of plane k comes from lane `lane` of vector `source`.
struct Shuffle {
  alignas(64) int32_t lane[3][kWidth];
  alignas(64) int32_t source[3][kWidth];
};
constexpr Shuffle make_shuffle(bool interleave) {
  Shuffle s{};
  for (int k = 0; k < 3; ++k) {
    for (int i = 0; i < kWidth; ++i) {
      const int e = interleave ? k * kWidth + i : 3 * i + k;
      s.lane[k][i] = interleave ? e / 3 : e % kWidth;
      s.source[k][i] = interleave ? e % 3 : e / kWidth;
    }
  }
  return s;
}
constexpr Shuffle kInterleave = make_shuffle(true), kDeinterleave = make_shuffle(false);

// out[k] = the lanes of a, b and c that the shuffle names. Bits pass through unchanged.
VHARM_HD void shuffle(const Shuffle& s, vf a, vf b, vf c, vf* out) {
#if defined(VHARM_ISA_avx512)
  for (int k = 0; k < 3; ++k) {
    const __m512i lane = _mm512_load_si512(s.lane[k]), source = _mm512_load_si512(s.source[k]);
    const __mmask16 second = _mm512_cmpeq_epi32_mask(source, _mm512_set1_epi32(1));
    const __mmask16 third = _mm512_cmpeq_epi32_mask(source, _mm512_set1_epi32(2));
    const __m512i both = _mm512_mask_add_epi32(lane, second, lane, _mm512_set1_epi32(16));
    const __m512 ab = _mm512_permutex2var_ps(a.v, both, b.v);
    out[k] = _mm512_mask_permutexvar_ps(ab, third, lane, c.v);
  }
#elif defined(VHARM_ISA_avx2)
  for (int k = 0; k < 3; ++k) {
    const __m256i lane = _mm256_load_si256((const __m256i*)s.lane[k]);
    const __m256i source = _mm256_load_si256((const __m256i*)s.source[k]);
    const __m256 second = _mm256_castsi256_ps(_mm256_cmpeq_epi32(source, _mm256_set1_epi32(1)));
    const __m256 third = _mm256_castsi256_ps(_mm256_cmpeq_epi32(source, _mm256_set1_epi32(2)));
    const __m256 ab = _mm256_blendv_ps(_mm256_permutevar8x32_ps(a.v, lane),
                                       _mm256_permutevar8x32_ps(b.v, lane), second);
    out[k] = _mm256_blendv_ps(ab, _mm256_permutevar8x32_ps(c.v, lane), third);
  }
#endif
}
#endif

// A store that does not read the line first, for aligned addresses.
VHARM_HD void put(float* p, vf a, bool stream) {
#if defined(VHARM_ISA_avx512)
  if (stream) return _mm512_stream_ps(p, a.v);
#elif defined(VHARM_ISA_avx2)
  if (stream) return _mm256_stream_ps(p, a.v);
#else
  (void)stream;
#endif
  store(p, a);
}
// Streamed stores become visible to other threads only after this.
VHARM_HD void finish_streams() {
#if !defined(VHARM_ISA_baseline)
  _mm_sfence();
#endif
}

// ---- runs of samples of kSize bytes -------------------------------------------------------------

template <int kSize>
struct SampleType;
template <>
struct SampleType<1> {
  typedef uint8_t type;
};
template <>
struct SampleType<2> {
  typedef uint16_t type;
};
template <>
struct SampleType<4> {
  typedef uint32_t type;
};

VHARM_HD void copy_bytes(char* to, const char* from, size_t bytes, bool stream) {
  size_t i = 0;
  if (stream) {
    constexpr size_t step = kWidth * 4;
    for (; i + step <= bytes; i += step) {
      put(reinterpret_cast<float*>(to + i), load(reinterpret_cast<const float*>(from + i)), true);
    }
  }
  memcpy(to + i, from + i, bytes - i);
}

// n pixels of three planes to n interleaved pixels.
template <int kSize>
VHARM_HD void interleave3(const char* const* planes, int n, char* to, bool stream) {
  (void)stream;
  int i = 0;
#if !defined(VHARM_ISA_baseline)
  if (kSize == 4) {
    const float* const* p = reinterpret_cast<const float* const*>(planes);
    float* q = reinterpret_cast<float*>(to);
    for (; i + kWidth <= n; i += kWidth) {
      vf v[3];
      shuffle(kInterleave, load(p[0] + i), load(p[1] + i), load(p[2] + i), v);
      for (int k = 0; k < 3; ++k) put(q + 3 * i + k * kWidth, v[k], stream);
    }
  }
  if (kSize == 1) {
    for (; i + 16 <= n; i += 16) {
      const auto plane = [&](int c) { return _mm_loadu_si128((const __m128i*)(planes[c] + i)); };
      const Triple t = interleave({plane(0), plane(1), plane(2)});
      auto* q = reinterpret_cast<__m128i*>(to + 3 * i);
      _mm_storeu_si128(q, t.a);
      _mm_storeu_si128(q + 1, t.b);
      _mm_storeu_si128(q + 2, t.c);
    }
  }
#endif
  typedef typename SampleType<kSize>::type T;
  T* q = reinterpret_cast<T*>(to);
  for (; i < n; ++i) {
    for (int c = 0; c < 3; ++c) q[3 * i + c] = reinterpret_cast<const T*>(planes[c])[i];
  }
}

template <int kSize>
VHARM_HD void deinterleave3(const char* from, int n, char* const* planes, bool stream) {
  (void)stream;
  int i = 0;
#if !defined(VHARM_ISA_baseline)
  if (kSize == 4) {
    const float* p = reinterpret_cast<const float*>(from);
    float* const* q = reinterpret_cast<float* const*>(planes);
    for (; i + kWidth <= n; i += kWidth) {
      const float* at = p + 3 * i;
      vf v[3];
      shuffle(kDeinterleave, load(at), load(at + kWidth), load(at + 2 * kWidth), v);
      for (int c = 0; c < 3; ++c) put(q[c] + i, v[c], stream);
    }
  }
  if (kSize == 1) {
    for (; i + 16 <= n; i += 16) {
      const auto* q = reinterpret_cast<const __m128i*>(from + 3 * i);
      const Triple t =
          deinterleave({_mm_loadu_si128(q), _mm_loadu_si128(q + 1), _mm_loadu_si128(q + 2)});
      _mm_storeu_si128((__m128i*)(planes[0] + i), t.a);
      _mm_storeu_si128((__m128i*)(planes[1] + i), t.b);
      _mm_storeu_si128((__m128i*)(planes[2] + i), t.c);
    }
  }
#endif
  typedef typename SampleType<kSize>::type T;
  const T* p = reinterpret_cast<const T*>(from);
  for (; i < n; ++i) {
    for (int c = 0; c < 3; ++c) reinterpret_cast<T*>(planes[c])[i] = p[3 * i + c];
  }
}

// Any strides: n pixels of c channels, `from` and `to` each with its own steps.
template <int kSize>
VHARM_HD void move_strided(const char* from, int64_t from_pixel, int64_t from_channel, char* to,
                           int64_t to_pixel, int64_t to_channel, int n, int64_t c) {
  typedef typename SampleType<kSize>::type T;
  const T* p = reinterpret_cast<const T*>(from);
  T* q = reinterpret_cast<T*>(to);
  for (int i = 0; i < n; ++i) {
    for (int64_t k = 0; k < c; ++k) {
      q[i * to_pixel + k * to_channel] = p[i * from_pixel + k * from_channel];
    }
  }
}

VHARM_HD float full_scale(DType dtype) {
  return dtype == DType::u8 ? 255.0f : (dtype == DType::u16 ? 65535.0f : 1.0f);
}

// n <= kSpan samples in [0, 1] to the dtype at `to`.
VHARM_HD void store_samples(const float* values, DType dtype, void* to, int64_t stride, int n) {
  const float scale = full_scale(dtype);
  store_plane(values, to, dtype, stride, n, scale, 0.0f, scale);
}
VHARM_HD void load_samples(const void* from, DType dtype, int64_t stride, int n, float* values) {
  load_plane(from, dtype, stride, n, 1.0f / full_scale(dtype), values);
}

}  // namespace VHARM_ISA
}  // namespace vharm
