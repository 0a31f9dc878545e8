// SPDX-License-Identifier: Apache-2.0
// float as an arithmetic type for the per-pixel templates. Vector types offer the same functions
// (csrc/cpu/simd.hpp) and are found by argument-dependent lookup.
#pragma once

#include <cmath>

#include "vharm/types.hpp"

namespace vharm {

VHARM_HD float vmin(float a, float b) { return a < b ? a : b; }  // NaN in b survives
VHARM_HD float vmax(float a, float b) { return a > b ? a : b; }
VHARM_HD float vfma(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
VHARM_HD bool less(float a, float b) { return a < b; }
VHARM_HD bool less_equal(float a, float b) { return a <= b; }
VHARM_HD bool both(bool a, bool b) { return a && b; }
VHARM_HD float select(bool m, float a, float b) { return m ? a : b; }
VHARM_HD float vsqrt(float a) { return sqrtf(a); }
VHARM_HD float vlog2(float a) { return log2f(a); }
VHARM_HD float vexp2(float a) { return exp2f(a); }

}  // namespace vharm
