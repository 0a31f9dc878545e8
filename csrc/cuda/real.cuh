// SPDX-License-Identifier: Apache-2.0
// `Real`, the arithmetic type of the GPU kernels: a float whose division, square root and minimum
// are the hardware's own instructions.
//
// Their errors (2 ulp at most) are those of exp2f, which has no better form on a GPU, and they
// take one or two instructions where IEEE division takes ten. The hardware's log2 is not used: next
// to 1 it has an absolute error only, and a dark pixel would pass highlight changed.
#pragma once

#include <cmath>
#include <cstring>

#include "vharm/types.hpp"

namespace vharm::cuda {

struct Real {
  float v;
  VHARM_HD Real() {}
  VHARM_HD explicit Real(float x) : v(x) {}
};

VHARM_HD Real operator+(Real a, Real b) { return Real(a.v + b.v); }
VHARM_HD Real operator-(Real a, Real b) { return Real(a.v - b.v); }
VHARM_HD Real operator*(Real a, Real b) { return Real(a.v * b.v); }
VHARM_HD Real operator/(Real a, Real b) {
#if defined(__CUDA_ARCH__)
  float q;
  asm("div.approx.ftz.f32 %0, %1, %2;" : "=f"(q) : "f"(a.v), "f"(b.v));
  return Real(q);
#else
  return Real(a.v / b.v);
#endif
}

// A NaN in either survives.
VHARM_HD Real vmin(Real a, Real b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  float m;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(m) : "f"(a.v), "f"(b.v));
  return Real(m);
#else
  return a.v < b.v ? a : b;
#endif
}
VHARM_HD Real vmax(Real a, Real b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  float m;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(m) : "f"(a.v), "f"(b.v));
  return Real(m);
#else
  return a.v > b.v ? a : b;
#endif
}

VHARM_HD Real vfma(Real a, Real b, Real c) { return Real(fmaf(a.v, b.v, c.v)); }
VHARM_HD bool less(Real a, Real b) { return a.v < b.v; }
VHARM_HD bool less_equal(Real a, Real b) { return a.v <= b.v; }
VHARM_HD Real select(bool m, Real a, Real b) { return m ? a : b; }

VHARM_HD Real vsqrt(Real a) {
#if defined(__CUDA_ARCH__)
  float r;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(a.v));
  return Real(r);
#else
  return Real(sqrtf(a.v));
#endif
}

// For positive normal arguments, and NaN: a = (1 + t) * 2^n with t in [-1/4, 1/2), and
// log2(1 + t) = t * p(t), p minimax of degree 8; relative error below 2e-7, log2(1) exactly 0.
// Filters take logarithms of 1e-9 to 1 alone, and the library's cases for all other floats would
// be a third of the chain's instructions.
VHARM_HD Real vlog2(Real a) {
  uint32_t bits, mantissa;
  memcpy(&bits, &a.v, 4);
  const uint32_t exponent = (bits - 0x3f400000u) & 0xff800000u;  // of a / 0.75
  mantissa = bits - exponent;
  float m;
  memcpy(&m, &mantissa, 4);
  const float t = m - 1.0f, n = static_cast<float>(static_cast<int32_t>(exponent)) * 0x1p-23f;
  float p = 0.080215223133564f;
  p = fmaf(p, t, -0.17637968063354492f);
  p = fmaf(p, t, 0.21666140854358673f);
  p = fmaf(p, t, -0.24250538647174835f);
  p = fmaf(p, t, 0.28813961148262024f);
  p = fmaf(p, t, -0.36058253049850464f);
  p = fmaf(p, t, 0.48090359568595886f);
  p = fmaf(p, t, -0.7213484048843384f);
  p = fmaf(p, t, 1.4426950216293335f);
  // The bit arithmetic hides a NaN; this brings it back.
  return Real(fmaf(a.v, 0.0f, fmaf(p, t, n)));
}
VHARM_HD Real vexp2(Real a) {
#if defined(__CUDA_ARCH__)
  float p;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(p) : "f"(a.v));
  return Real(p);
#else
  return Real(exp2f(a.v));
#endif
}

}  // namespace vharm::cuda
