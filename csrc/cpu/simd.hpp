// SPDX-License-Identifier: Apache-2.0
// `vf`, a vector of kWidth floats for the instruction set this file is compiled for.
//
// Included by csrc/cpu/*.cpp only. Everything stands in namespace vharm::VHARM_ISA, so that the
// linker cannot merge one instruction set's code with another's, and nothing of the STL is used.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(VHARM_ISA_avx2) || defined(VHARM_ISA_avx512)
#include <immintrin.h>
#endif

#include "vharm/types.hpp"

namespace vharm {
namespace VHARM_ISA {

#if defined(VHARM_ISA_avx512)

constexpr int kWidth = 16;
struct vf {
  __m512 v;
  VHARM_HD vf() {}
  VHARM_HD vf(__m512 x) : v(x) {}
  VHARM_HD explicit vf(float x) : v(_mm512_set1_ps(x)) {}
};
// A type of its own, not the bare integer: the templates find both() by its argument's namespace.
struct vmask {
  __mmask16 v;
};

VHARM_HD vf load(const float* p) { return _mm512_loadu_ps(p); }
VHARM_HD void store(float* p, vf a) { _mm512_storeu_ps(p, a.v); }
VHARM_HD vf operator+(vf a, vf b) { return _mm512_add_ps(a.v, b.v); }
VHARM_HD vf operator-(vf a, vf b) { return _mm512_sub_ps(a.v, b.v); }
VHARM_HD vf operator*(vf a, vf b) { return _mm512_mul_ps(a.v, b.v); }
VHARM_HD vf operator/(vf a, vf b) { return _mm512_div_ps(a.v, b.v); }
VHARM_HD vf vmin(vf a, vf b) { return _mm512_min_ps(a.v, b.v); }
VHARM_HD vf vmax(vf a, vf b) { return _mm512_max_ps(a.v, b.v); }
VHARM_HD vf vfma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }
VHARM_HD vmask less(vf a, vf b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
VHARM_HD vmask less_equal(vf a, vf b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
VHARM_HD vmask both(vmask a, vmask b) { return {static_cast<__mmask16>(a.v & b.v)}; }
VHARM_HD bool any(vmask m) { return m.v != 0; }
VHARM_HD vf select(vmask m, vf a, vf b) { return _mm512_mask_blend_ps(m.v, b.v, a.v); }
VHARM_HD vf vsqrt(vf a) { return _mm512_sqrt_ps(a.v); }
VHARM_HD vf vround(vf a) { return _mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT); }
VHARM_HD vf vtrunc(vf a) { return _mm512_roundscale_ps(a.v, _MM_FROUND_TO_ZERO); }
VHARM_HD float sum(vf a) { return _mm512_reduce_add_ps(a.v); }
// The sums of four vectors, one behind the other.
VHARM_HD void store_sums(float* p, vf a, vf b, vf c, vf d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a.v, b.v), _mm512_unpackhi_ps(a.v, b.v));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c.v, d.v), _mm512_unpackhi_ps(c.v, d.v));
  const __m512 quarters =
      _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  const __m256 halves =
      _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps(quarters, 1));
  _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
}

// m in [0.75, 1.5) and e such that a = m * 2^e.
VHARM_HD void split(vf a, vf& m, vf& e) {
  m = _mm512_getmant_ps(a.v, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
  e = vf(_mm512_getexp_ps(a.v)) - vf(_mm512_getexp_ps(m.v));
}
VHARM_HD vf scale_exponent(vf a, vf n) { return _mm512_scalef_ps(a.v, n.v); }

VHARM_HD vf load_u8(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
VHARM_HD vf load_u16(const uint16_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)));
}
// Rounds half to even; values must lie in the type's range.
VHARM_HD void store_u8(uint8_t* p, vf a) {
  _mm_storeu_si128((__m128i*)p, _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(a.v)));
}
VHARM_HD void store_u16(uint16_t* p, vf a) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtusepi32_epi16(_mm512_cvtps_epi32(a.v)));
}

#elif defined(VHARM_ISA_avx2)

constexpr int kWidth = 8;

struct vf {
  __m256 v;
  VHARM_HD vf() {}
  VHARM_HD vf(__m256 x) : v(x) {}
  VHARM_HD explicit vf(float x) : v(_mm256_set1_ps(x)) {}
};
struct vmask {
  __m256 v;
};

VHARM_HD vf load(const float* p) { return _mm256_loadu_ps(p); }
VHARM_HD void store(float* p, vf a) { _mm256_storeu_ps(p, a.v); }
VHARM_HD vf operator+(vf a, vf b) { return _mm256_add_ps(a.v, b.v); }
VHARM_HD vf operator-(vf a, vf b) { return _mm256_sub_ps(a.v, b.v); }
VHARM_HD vf operator*(vf a, vf b) { return _mm256_mul_ps(a.v, b.v); }
VHARM_HD vf operator/(vf a, vf b) { return _mm256_div_ps(a.v, b.v); }
VHARM_HD vf vmin(vf a, vf b) { return _mm256_min_ps(a.v, b.v); }
VHARM_HD vf vmax(vf a, vf b) { return _mm256_max_ps(a.v, b.v); }
VHARM_HD vf vfma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
VHARM_HD vmask less(vf a, vf b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
VHARM_HD vmask less_equal(vf a, vf b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
VHARM_HD vmask both(vmask a, vmask b) { return {_mm256_and_ps(a.v, b.v)}; }
VHARM_HD bool any(vmask m) { return _mm256_movemask_ps(m.v) != 0; }
VHARM_HD vf select(vmask m, vf a, vf b) { return _mm256_blendv_ps(b.v, a.v, m.v); }
VHARM_HD vf vsqrt(vf a) { return _mm256_sqrt_ps(a.v); }
VHARM_HD vf vround(vf a) {
  return _mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
VHARM_HD vf vtrunc(vf a) { return _mm256_round_ps(a.v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
VHARM_HD float sum(vf a) {
  __m128 h = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  h = _mm_add_ps(h, _mm_movehl_ps(h, h));
  return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}
VHARM_HD void store_sums(float* p, vf a, vf b, vf c, vf d) {
  const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a.v, b.v), _mm256_unpackhi_ps(a.v, b.v));
  const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c.v, d.v), _mm256_unpackhi_ps(c.v, d.v));
  const __m256 halves =
      _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
}

VHARM_HD void split(vf a, vf& m, vf& e) {
  const __m256i bits = _mm256_castps_si256(a.v), origin = _mm256_set1_epi32(0x3f400000);  // 0.75
  const __m256i n = _mm256_srai_epi32(_mm256_sub_epi32(bits, origin), 23);
  e = _mm256_cvtepi32_ps(n);
  m = _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(n, 23)));
  // The bit arithmetic hides a NaN; adding it back costs one instruction.
  m = select({_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q)}, a, m);
}
VHARM_HD vf scale_exponent(vf a, vf n) {
  // Below 2^-126 the result is taken as 0.
  const vf floor_n = vmax(vf(-127.0f), n);
  const __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(floor_n.v), _mm256_set1_epi32(127));
  return a * vf(_mm256_castsi256_ps(_mm256_slli_epi32(e, 23)));
}

VHARM_HD vf load_u8(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)));
}
VHARM_HD vf load_u16(const uint16_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)));
}
VHARM_HD __m128i to_u16(vf a) {
  const __m256i i = _mm256_cvtps_epi32(a.v);
  return _mm_packus_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
}
VHARM_HD void store_u8(uint8_t* p, vf a) {
  const __m128i w = to_u16(a);
  _mm_storel_epi64((__m128i*)p, _mm_packus_epi16(w, w));
}
VHARM_HD void store_u16(uint16_t* p, vf a) { _mm_storeu_si128((__m128i*)p, to_u16(a)); }

#else  // baseline: GCC and Clang vector extensions, any processor

constexpr int kWidth = 4;
typedef float native_vf __attribute__((vector_size(16)));
typedef int32_t native_vi __attribute__((vector_size(16)));

struct vf {
  native_vf v;
  VHARM_HD vf() {}
  VHARM_HD vf(native_vf x) : v(x) {}
  VHARM_HD explicit vf(float x) : v(native_vf{x, x, x, x}) {}
};
struct vmask {
  native_vi v;
};

VHARM_HD vf load(const float* p) {
  native_vf x;
  memcpy(&x, p, sizeof x);
  return x;
}
VHARM_HD void store(float* p, vf a) { memcpy(p, &a.v, sizeof a.v); }
VHARM_HD vf operator+(vf a, vf b) { return a.v + b.v; }
VHARM_HD vf operator-(vf a, vf b) { return a.v - b.v; }
VHARM_HD vf operator*(vf a, vf b) { return a.v * b.v; }
VHARM_HD vf operator/(vf a, vf b) { return a.v / b.v; }
VHARM_HD vf vmin(vf a, vf b) { return a.v < b.v ? a.v : b.v; }
VHARM_HD vf vmax(vf a, vf b) { return a.v > b.v ? a.v : b.v; }
VHARM_HD vf vfma(vf a, vf b, vf c) { return a.v * b.v + c.v; }
VHARM_HD vmask less(vf a, vf b) { return {a.v < b.v}; }
VHARM_HD vmask less_equal(vf a, vf b) { return {a.v <= b.v}; }
VHARM_HD vmask both(vmask a, vmask b) { return {a.v & b.v}; }
VHARM_HD bool any(vmask m) { return (m.v[0] | m.v[1] | m.v[2] | m.v[3]) != 0; }
VHARM_HD vf select(vmask m, vf a, vf b) { return m.v ? a.v : b.v; }
VHARM_HD vf vsqrt(vf a) {
  for (int i = 0; i < kWidth; ++i) a.v[i] = __builtin_sqrtf(a.v[i]);
  return a;
}
// Valid for |a| < 2^22, which every use here keeps.
VHARM_HD vf vround(vf a) {
  const native_vf magic = vf(12582912.0f).v;
  return (a.v + magic) - magic;
}
VHARM_HD vf vtrunc(vf a) {
  return __builtin_convertvector(__builtin_convertvector(a.v, native_vi), native_vf);
}
VHARM_HD float sum(vf a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
VHARM_HD void store_sums(float* p, vf a, vf b, vf c, vf d) {
  p[0] = sum(a);
  p[1] = sum(b);
  p[2] = sum(c);
  p[3] = sum(d);
}

VHARM_HD void split(vf a, vf& m, vf& e) {
  native_vi bits;
  memcpy(&bits, &a.v, sizeof bits);
  const native_vi n = (bits - 0x3f400000) >> 23;  // 0x3f400000 is 0.75
  e = __builtin_convertvector(n, native_vf);
  const native_vi rest = bits - (n << 23);
  memcpy(&m.v, &rest, sizeof rest);
  m = select({a.v != a.v}, a, m);
}
VHARM_HD vf scale_exponent(vf a, vf n) {
  const native_vi e = __builtin_convertvector(vmax(vf(-127.0f), n).v, native_vi) + 127;
  const native_vi bits = e << 23;
  native_vf factor;
  memcpy(&factor, &bits, sizeof bits);
  return a.v * factor;
}

VHARM_HD vf load_u8(const uint8_t* p) {
  return native_vf{float(p[0]), float(p[1]), float(p[2]), float(p[3])};
}
VHARM_HD vf load_u16(const uint16_t* p) {
  return native_vf{float(p[0]), float(p[1]), float(p[2]), float(p[3])};
}
template <class T>
VHARM_HD void store_integers(T* p, vf a) {
  const native_vi i = __builtin_convertvector(vround(a).v, native_vi);
  for (int k = 0; k < kWidth; ++k) p[k] = T(i[k]);
}
VHARM_HD void store_u8(uint8_t* p, vf a) { store_integers(p, a); }
VHARM_HD void store_u16(uint16_t* p, vf a) { store_integers(p, a); }

#endif

// log2 for positive normal arguments: a = m * 2^e, m = 1 + t, minimax t*p(t) on [-1/4, 1/2) with
// an absolute error of 3.2e-7.
VHARM_HD vf vlog2(vf a) {
  vf m, e;
  split(a, m, e);
  const vf t = m - vf(1.0f);
  vf p(0.11452236026525497f);
  p = vfma(p, t, vf(-0.24070318043231964f));
  p = vfma(p, t, vf(0.29976600408554077f));
  p = vfma(p, t, vf(-0.3620096445083618f));
  p = vfma(p, t, vf(0.48052114248275757f));
  p = vfma(p, t, vf(-0.7213093638420105f));
  p = vfma(p, t, vf(1.4426984786987305f));
  return vfma(p, t, e);
}

// 2^a for a <= 127: nearest integer and 1 + t*p(t), minimax on [-1/2, 1/2], relative error 1e-7;
// 2^0 is exactly 1.
VHARM_HD vf vexp2(vf a) {
  const vf n = vround(a), t = a - n;
  vf p(0.001326472731307149f);
  p = vfma(p, t, vf(0.009671512991189957f));
  p = vfma(p, t, vf(0.05550733581185341f));
  p = vfma(p, t, vf(0.24022242426872253f));
  p = vfma(p, t, vf(0.6931470036506653f));
  p = vfma(p, t, vf(1.0f));
  return scale_exponent(p, n);
}

}  // namespace VHARM_ISA
}  // namespace vharm
