// SPDX-License-Identifier: Apache-2.0
// Short runs of samples: from any dtype and stride to planar float in [0, 1], and back.
#pragma once

#include "cpu/simd.hpp"

namespace vharm {
namespace VHARM_ISA {

constexpr int kSpan = 512;  // pixels: three planes, their originals and the mask fit in L1

struct alignas(64) Span {
  float r[kSpan], g[kSpan], b[kSpan];
};

VHARM_HD int padded(int n) { return (n + kWidth - 1) / kWidth * kWidth; }

VHARM_HD float from_bf16(uint16_t x) {
  const uint32_t bits = uint32_t(x) << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
VHARM_HD uint16_t to_bf16(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t(bits >> 16);  // NaN: keep its payload
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
#if defined(VHARM_ISA_baseline)
VHARM_HD float from_f16(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000) << 16, rest = h & 0x7fff;
  uint32_t bits;
  if (rest >= 0x7c00) {
    bits = sign | 0x7f800000 | ((rest & 0x3ff) << 13);
  } else if (rest >= 0x400) {
    bits = sign | ((rest + 0x1c000) << 13);
  } else {  // subnormal: rest * 2^-24 exactly
    float f = float(rest) * 5.9604644775390625e-08f;
    memcpy(&bits, &f, 4);
    bits |= sign;
  }
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
VHARM_HD uint16_t to_f16(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  const uint32_t sign = (bits >> 16) & 0x8000, rest = bits & 0x7fffffff;
  if (rest > 0x7f800000) return uint16_t(sign | 0x7e00 | ((rest >> 13) & 0x3ff));
  if (rest >= 0x477ff000) return uint16_t(sign | 0x7c00);
  if (rest < 0x38800000) {  // below the smallest normal: let the adder round
    float a, magic = 0.5f;
    memcpy(&a, &rest, 4);
    a += magic;
    uint32_t r;
    memcpy(&r, &a, 4);
    return uint16_t(sign | (r - 0x3f000000));
  }
  return uint16_t(sign | ((rest - 0x38000000 + 0xfff + ((rest >> 13) & 1)) >> 13));
}
#else
VHARM_HD float from_f16(uint16_t h) { return _cvtsh_ss(h); }
VHARM_HD uint16_t to_f16(float f) { return _cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT); }
#endif

VHARM_HD float load_one(const void* p, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::u8:
      return static_cast<const uint8_t*>(p)[i] * (1.0f / 255.0f);
    case DType::u16:
      return static_cast<const uint16_t*>(p)[i] * (1.0f / 65535.0f);
    case DType::f16:
      return from_f16(static_cast<const uint16_t*>(p)[i]);
    case DType::bf16:
      return from_bf16(static_cast<const uint16_t*>(p)[i]);
    case DType::f32:
      return static_cast<const float*>(p)[i];
  }
  return 0;
}

VHARM_HD int sample_size(DType dtype) {
  return dtype == DType::u8 ? 1 : (dtype == DType::f32 ? 4 : 2);
}
VHARM_HD const char* at(const void* data, DType dtype, int64_t offset) {
  return static_cast<const char*>(data) + offset * sample_size(dtype);
}
VHARM_HD char* at(void* data, DType dtype, int64_t offset) {
  return static_cast<char*>(data) + offset * sample_size(dtype);
}

// ---- one plane ----------------------------------------------------------------------------------

// n samples `stride` apart, times scale; pads with zeros up to a whole vector.
inline void load_plane(const void* data, DType dtype, int64_t stride, int n, float scale,
                       float* out) {
  int i = 0;
  if (stride == 1 && dtype == DType::u8) {
    const auto* p = static_cast<const uint8_t*>(data);
    for (; i + kWidth <= n; i += kWidth) store(out + i, load_u8(p + i) * vf(scale));
    for (; i < n; ++i) out[i] = p[i] * scale;
  } else if (stride == 1 && dtype == DType::u16) {
    const auto* p = static_cast<const uint16_t*>(data);
    for (; i + kWidth <= n; i += kWidth) store(out + i, load_u16(p + i) * vf(scale));
    for (; i < n; ++i) out[i] = p[i] * scale;
  } else {
    switch (dtype) {
      case DType::u8:
        for (; i < n; ++i) out[i] = static_cast<const uint8_t*>(data)[i * stride] * scale;
        break;
      case DType::u16:
        for (; i < n; ++i) out[i] = static_cast<const uint16_t*>(data)[i * stride] * scale;
        break;
      case DType::f16:
        for (; i < n; ++i)
          out[i] = from_f16(static_cast<const uint16_t*>(data)[i * stride]) * scale;
        break;
      case DType::bf16:
        for (; i < n; ++i)
          out[i] = from_bf16(static_cast<const uint16_t*>(data)[i * stride]) * scale;
        break;
      case DType::f32:
        if (stride == 1 && scale == 1.0f) {
          memcpy(out, data, size_t(n) * 4);
          i = n;
        } else {
          for (; i < n; ++i) out[i] = static_cast<const float*>(data)[i * stride] * scale;
        }
        break;
    }
  }
  for (; i < padded(n); ++i) out[i] = 0;
}

// n samples; integers are clamped to [low, high] and rounded half to even. `values` is padded.
inline void store_plane(const float* values, void* data, DType dtype, int64_t stride, int n,
                        float scale, float low, float high) {
  int i = 0;
  if (dtype == DType::u8 || dtype == DType::u16) {
    uint16_t wide[kSpan];
    auto* bytes = reinterpret_cast<uint8_t*>(wide);
    const bool direct = stride == 1;
    for (; i < n; i += kWidth) {
      // NaN becomes `low`: the constant stands second.
      const vf v = vmin(vmax(load(values + i) * vf(scale), vf(low)), vf(high));
      const bool whole = direct && i + kWidth <= n;
      if (dtype == DType::u8) {
        store_u8(whole ? static_cast<uint8_t*>(data) + i : bytes + i, v);
      } else {
        store_u16(whole ? static_cast<uint16_t*>(data) + i : wide + i, v);
      }
    }
    for (int k = direct ? n / kWidth * kWidth : 0; k < n; ++k) {
      if (dtype == DType::u8) {
        static_cast<uint8_t*>(data)[k * stride] = bytes[k];
      } else {
        static_cast<uint16_t*>(data)[k * stride] = wide[k];
      }
    }
    return;
  }
  switch (dtype) {
    case DType::f32:
      if (stride == 1) {
        memcpy(data, values, size_t(n) * 4);
      } else {
        for (; i < n; ++i) static_cast<float*>(data)[i * stride] = values[i];
      }
      break;
    case DType::f16:
      for (; i < n; ++i) static_cast<uint16_t*>(data)[i * stride] = to_f16(values[i]);
      break;
    default:
      for (; i < n; ++i) static_cast<uint16_t*>(data)[i * stride] = to_bf16(values[i]);
      break;
  }
}

// ---- interleaved bytes --------------------------------------------------------------------------

#if !defined(VHARM_ISA_baseline)
// 48 interleaved bytes to 16 of each channel and back: each register collects, from each of the
// three it draws on, the bytes that belong to it.
struct Triple {
  __m128i a, b, c;
};
VHARM_HD Triple deinterleave(Triple s) {
  const char z = -1;
  const __m128i ra = _mm_setr_epi8(0, 3, 6, 9, 12, 15, z, z, z, z, z, z, z, z, z, z);
  const __m128i rb = _mm_setr_epi8(z, z, z, z, z, z, 2, 5, 8, 11, 14, z, z, z, z, z);
  const __m128i rc = _mm_setr_epi8(z, z, z, z, z, z, z, z, z, z, z, 1, 4, 7, 10, 13);
  const __m128i ga = _mm_setr_epi8(1, 4, 7, 10, 13, z, z, z, z, z, z, z, z, z, z, z);
  const __m128i gb = _mm_setr_epi8(z, z, z, z, z, 0, 3, 6, 9, 12, 15, z, z, z, z, z);
  const __m128i gc = _mm_setr_epi8(z, z, z, z, z, z, z, z, z, z, z, 2, 5, 8, 11, 14);
  const __m128i ba = _mm_setr_epi8(2, 5, 8, 11, 14, z, z, z, z, z, z, z, z, z, z, z);
  const __m128i bb = _mm_setr_epi8(z, z, z, z, z, 1, 4, 7, 10, 13, z, z, z, z, z, z);
  const __m128i bc = _mm_setr_epi8(z, z, z, z, z, z, z, z, z, z, 0, 3, 6, 9, 12, 15);
  const auto join = [&](__m128i x, __m128i y, __m128i w) {
    return _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(s.a, x), _mm_shuffle_epi8(s.b, y)),
                        _mm_shuffle_epi8(s.c, w));
  };
  return {join(ra, rb, rc), join(ga, gb, gc), join(ba, bb, bc)};
}
VHARM_HD Triple interleave(Triple p) {
  const char z = -1;
  const __m128i ar = _mm_setr_epi8(0, z, z, 1, z, z, 2, z, z, 3, z, z, 4, z, z, 5);
  const __m128i ag = _mm_setr_epi8(z, 0, z, z, 1, z, z, 2, z, z, 3, z, z, 4, z, z);
  const __m128i ab = _mm_setr_epi8(z, z, 0, z, z, 1, z, z, 2, z, z, 3, z, z, 4, z);
  const __m128i br = _mm_setr_epi8(z, z, 6, z, z, 7, z, z, 8, z, z, 9, z, z, 10, z);
  const __m128i bg = _mm_setr_epi8(5, z, z, 6, z, z, 7, z, z, 8, z, z, 9, z, z, 10);
  const __m128i bb = _mm_setr_epi8(z, 5, z, z, 6, z, z, 7, z, z, 8, z, z, 9, z, z);
  const __m128i cr = _mm_setr_epi8(z, 11, z, z, 12, z, z, 13, z, z, 14, z, z, 15, z, z);
  const __m128i cg = _mm_setr_epi8(z, z, 11, z, z, 12, z, z, 13, z, z, 14, z, z, 15, z);
  const __m128i cb = _mm_setr_epi8(10, z, z, 11, z, z, 12, z, z, 13, z, z, 14, z, z, 15);
  const auto join = [&](__m128i x, __m128i y, __m128i w) {
    return _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(p.a, x), _mm_shuffle_epi8(p.b, y)),
                        _mm_shuffle_epi8(p.c, w));
  };
  return {join(ar, ag, ab), join(br, bg, bb), join(cr, cg, cb)};
}
VHARM_HD void widen16(__m128i bytes, float scale, float* out) {
#if defined(VHARM_ISA_avx512)
  store(out, vf(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))) * vf(scale));
#else
  store(out, vf(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))) * vf(scale));
  store(out + 8,
        vf(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))) * vf(scale));
#endif
}
VHARM_HD __m128i narrow16(const float* values) {
  const vf scale(255.0f), low(0.0f), high(255.0f);
#if defined(VHARM_ISA_avx512)
  const vf v = vmin(vmax(load(values) * scale, low), high);
  return _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(v.v));
#else
  const vf u = vmin(vmax(load(values) * scale, low), high);
  const vf v = vmin(vmax(load(values + 8) * scale, low), high);
  return _mm_packus_epi16(to_u16(u), to_u16(v));
#endif
}
#endif

inline void load_interleaved_u8(const uint8_t* p, int n, Span& out) {
  const float scale = 1.0f / 255.0f;
  int i = 0;
#if !defined(VHARM_ISA_baseline)
  for (; i + 16 <= n; i += 16) {
    const auto* q = reinterpret_cast<const __m128i*>(p + 3 * i);
    const Triple t =
        deinterleave({_mm_loadu_si128(q), _mm_loadu_si128(q + 1), _mm_loadu_si128(q + 2)});
    widen16(t.a, scale, out.r + i);
    widen16(t.b, scale, out.g + i);
    widen16(t.c, scale, out.b + i);
  }
#endif
  for (; i < n; ++i) {
    out.r[i] = p[3 * i] * scale;
    out.g[i] = p[3 * i + 1] * scale;
    out.b[i] = p[3 * i + 2] * scale;
  }
  for (; i < padded(n); ++i) out.r[i] = out.g[i] = out.b[i] = 0;
}

inline void store_interleaved_u8(const Span& in, int n, uint8_t* p) {
  int i = 0;
#if !defined(VHARM_ISA_baseline)
  for (; i + 16 <= n; i += 16) {
    const Triple t = interleave({narrow16(in.r + i), narrow16(in.g + i), narrow16(in.b + i)});
    auto* q = reinterpret_cast<__m128i*>(p + 3 * i);
    _mm_storeu_si128(q, t.a);
    _mm_storeu_si128(q + 1, t.b);
    _mm_storeu_si128(q + 2, t.c);
  }
#endif
  for (; i < n; i += kWidth) {
    const int m = n - i < kWidth ? n - i : kWidth;
    const float* planes[3] = {in.r + i, in.g + i, in.b + i};
    for (int c = 0; c < 3; ++c) store_plane(planes[c], p + 3 * i + c, DType::u8, 3, m, 255, 0, 255);
  }
}

// ---- spans of an image --------------------------------------------------------------------------

// `offset` in samples from the image's first; n pixels sw apart.
inline void load_span(const ImageView& image, int64_t offset, int n, Span& out) {
  if (image.dtype == DType::u8 && image.sc == 1 && image.sw == 3) {
    load_interleaved_u8(static_cast<const uint8_t*>(image.data) + offset, n, out);
    return;
  }
  const float scale =
      image.dtype == DType::u8 ? 1.0f / 255.0f : (image.dtype == DType::u16 ? 1.0f / 65535.0f : 1);
  float* planes[3] = {out.r, out.g, out.b};
  for (int c = 0; c < 3; ++c) {
    load_plane(at(image.data, image.dtype, offset + c * image.sc), image.dtype, image.sw, n, scale,
               planes[c]);
  }
}

inline void store_span(const Span& in, const ImageView& image, int64_t offset, int n) {
  if (image.dtype == DType::u8 && image.sc == 1 && image.sw == 3) {
    store_interleaved_u8(in, n, static_cast<uint8_t*>(image.data) + offset);
    return;
  }
  const float scale =
      image.dtype == DType::u8 ? 255.0f : (image.dtype == DType::u16 ? 65535.0f : 1);
  const float* planes[3] = {in.r, in.g, in.b};
  for (int c = 0; c < 3; ++c) {
    store_plane(planes[c], at(image.data, image.dtype, offset + c * image.sc), image.dtype,
                image.sw, n, scale, 0, scale);
  }
}

// The samples as they are, for pixels the mask does not touch.
inline void copy_span(const ImageView& from, int64_t from_offset, const ImageView& to,
                      int64_t to_offset, int n) {
  const int size = sample_size(from.dtype);
  if (from.sc == 1 && from.sw == 3 && to.sc == 1 && to.sw == 3) {
    memcpy(at(to.data, to.dtype, to_offset), at(from.data, from.dtype, from_offset),
           size_t(n) * 3 * size);
    return;
  }
  for (int c = 0; c < 3; ++c) {
    char* q = at(to.data, to.dtype, to_offset + c * to.sc);
    const char* p = at(from.data, from.dtype, from_offset + c * from.sc);
    if (from.sw == 1 && to.sw == 1) {
      memcpy(q, p, size_t(n) * size);
    } else {
      for (int i = 0; i < n; ++i) memcpy(q + i * to.sw * size, p + i * from.sw * size, size);
    }
  }
}

// ---- spans of a mask ----------------------------------------------------------------------------

struct MaskSpan {
  int begin, end;  // outside [begin, end) the mask is zero
  bool full;       // one everywhere inside
};

// Most of a frame's mask is empty: bytes are told at a fraction of the cost of converting them.
inline bool none_above(const uint8_t* p, int n, float black) {
  if (black < 0) return false;
  const uint8_t limit = black > 255 ? 255 : static_cast<uint8_t>(black);
  uint8_t over = 0;
  for (int i = 0; i < n; ++i) over |= static_cast<uint8_t>(p[i] > limit);
  return over == 0;
}

// Fills values[0, padded(n)) and says where they are zero and one.
inline MaskSpan load_mask(const MaskView& mask, int64_t offset, int n, float* values) {
  if (mask.data == nullptr) {
    for (int i = 0; i < padded(n); ++i) values[i] = i < n ? mask.strength : 0;
    return {0, mask.strength > 0 ? n : 0, mask.strength == 1.0f};
  }
  if (mask.dtype == DType::u8 && mask.sw == 1 &&
      none_above(static_cast<const uint8_t*>(mask.data) + offset, n, mask.black)) {
    memset(values, 0, size_t(padded(n)) * sizeof(float));
    return {0, 0, false};
  }
  load_plane(at(static_cast<const void*>(mask.data), mask.dtype, offset), mask.dtype, mask.sw, n,
             1.0f, values);
  const vf black(mask.black), strength(mask.strength), one(1.0f), zero(0.0f);
  const vf range(1.0f / (mask.white - mask.black));
  int begin = n, end = 0;
  bool full = true;
  for (int i = 0; i < n; i += kWidth) {
    vf v = (load(values + i) - black) * range;
    v = vmin(one, vmax(zero, v)) * strength;
    store(values + i, v);
    if (any(less(zero, v))) {
      begin = begin < i ? begin : i;
      end = i + kWidth;
    }
    if (any(less(v, one)) && full) {
      for (int k = i; k < n && k < i + kWidth; ++k) full = full && values[k] >= 1.0f;
    }
  }
  for (int i = n; i < padded(n); ++i) values[i] = 0;
  end = end < n ? end : n;
  return {begin < end ? begin : 0, begin < end ? end : 0, full};
}

}  // namespace VHARM_ISA
}  // namespace vharm
