// SPDX-License-Identifier: Apache-2.0
// Loads from computed places: vectors of indices and gathers for the instruction set at hand.
#pragma once

#include "cpu/simd.hpp"

namespace vharm {
namespace VHARM_ISA {

#if defined(VHARM_ISA_avx512)

struct vindex {
  __m512i v;
};
// Whole, non-negative floats.
VHARM_HD vindex to_index(vf a) { return {_mm512_cvttps_epi32(a.v)}; }
VHARM_HD vindex times3(vindex i) { return {_mm512_add_epi32(i.v, _mm512_slli_epi32(i.v, 1))}; }
VHARM_HD void store(int32_t* p, vindex i) { _mm512_storeu_si512(p, i.v); }
VHARM_HD vf gather(const float* p, vindex i) { return _mm512_i32gather_ps(i.v, p, 4); }

// Four int16 at each index: the first two and the last two as int32, in the order of the pixels.
struct Quads {
  __m512i ab, cd;
};
VHARM_HD Quads gather_quads(const void* p, vindex i) {
  const __m512i low = _mm512_i32gather_epi64(_mm512_castsi512_si256(i.v), p, 8);
  const __m512i high = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(i.v, 1), p, 8);
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  return {_mm512_permutex2var_epi32(low, even, high), _mm512_permutex2var_epi32(low, odd, high)};
}

#elif defined(VHARM_ISA_avx2)

struct vindex {
  __m256i v;
};
VHARM_HD vindex to_index(vf a) { return {_mm256_cvttps_epi32(a.v)}; }
VHARM_HD vindex times3(vindex i) { return {_mm256_add_epi32(i.v, _mm256_slli_epi32(i.v, 1))}; }
VHARM_HD void store(int32_t* p, vindex i) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), i.v);
}
VHARM_HD vf gather(const float* p, vindex i) { return _mm256_i32gather_ps(p, i.v, 4); }

struct Quads {
  __m256i ab, cd;
};
VHARM_HD Quads gather_quads(const void* p, vindex i) {
  const auto* q = static_cast<const long long*>(p);
  // The shuffles below take 64-bit pairs from both halves in turn; so do the indices.
  const __m256i turned = _mm256_permute4x64_epi64(i.v, 0xd8);
  const __m256 low =
      _mm256_castsi256_ps(_mm256_i32gather_epi64(q, _mm256_castsi256_si128(turned), 8));
  const __m256 high =
      _mm256_castsi256_ps(_mm256_i32gather_epi64(q, _mm256_extracti128_si256(turned, 1), 8));
  return {_mm256_castps_si256(_mm256_shuffle_ps(low, high, 0x88)),
          _mm256_castps_si256(_mm256_shuffle_ps(low, high, 0xdd))};
}

#else

struct vindex {
  int32_t v[kWidth];
};
VHARM_HD vindex to_index(vf a) {
  vindex i;
  for (int k = 0; k < kWidth; ++k) i.v[k] = static_cast<int32_t>(a.v[k]);
  return i;
}
VHARM_HD vindex times3(vindex i) {
  for (int32_t& k : i.v) k *= 3;
  return i;
}
VHARM_HD void store(int32_t* p, vindex i) { memcpy(p, i.v, sizeof i.v); }
VHARM_HD vf gather(const float* p, vindex i) {
  return native_vf{p[i.v[0]], p[i.v[1]], p[i.v[2]], p[i.v[3]]};
}

#endif

}  // namespace VHARM_ISA
}  // namespace vharm
