// SPDX-License-Identifier: Apache-2.0
// Pieces of Y'CbCr conversion shared by the converters and by colour operations on planes.
#pragma once

#include "cpu/apply.hpp"
#include "vharm/filters.hpp"

namespace vharm {
namespace VHARM_ISA {

inline char* sample(const PlaneView& p, int64_t y, int64_t x) {
  return at(p.data, p.dtype, y * p.sh + x * p.sw);
}

struct YuvMatrices {
  vf to[9], from[9], offset[3];

  explicit YuvMatrices(const YuvFormat& format) {
    for (int i = 0; i < 9; ++i) {
      to[i] = vf(format.to_rgb[i]);
      from[i] = vf(format.from_rgb[i]);
    }
    for (int i = 0; i < 3; ++i) offset[i] = vf(format.offset[i]);
  }
  VHARM_HD Rgb<vf> rgb(vf y, vf u, vf v) const {
    y = y - offset[0];
    u = u - offset[1];
    v = v - offset[2];
    return {vfma(to[0], y, vfma(to[1], u, to[2] * v)), vfma(to[3], y, vfma(to[4], u, to[5] * v)),
            vfma(to[6], y, vfma(to[7], u, to[8] * v))};
  }
  VHARM_HD vf sample(int i, Rgb<vf> v) const {
    return vfma(from[3 * i], v.r,
                vfma(from[3 * i + 1], v.g, vfma(from[3 * i + 2], v.b, offset[i])));
  }
};

// Chroma to luma resolution; writes whole sites, up to one past `columns`.
inline void repeat_sites(const float* from, int chroma, int log2_x, float* to, int columns) {
  if (log2_x == 0) {
    memcpy(to, from, size_t(columns) * 4);
  } else if (log2_x == 1) {
    for (int i = 0; i < chroma; ++i) to[2 * i] = to[2 * i + 1] = from[i];
  } else {
    for (int i = 0; i < chroma << log2_x; ++i) to[i] = from[i >> log2_x];
  }
}

// Adds the values of luma sites to their chroma site. `from` starts at a whole site.
inline void gather_sites(const float* from, int count, int log2_x, float* sum) {
  if (log2_x == 0) {
    for (int i = 0; i < count; ++i) sum[i] += from[i];
  } else if (log2_x == 1) {
    for (int i = 0; i < count / 2; ++i) sum[i] += from[2 * i] + from[2 * i + 1];
    if (count & 1) sum[count / 2] += from[count - 1];
  } else {
    for (int i = 0; i < count; ++i) sum[i >> log2_x] += from[i];
  }
}

// Luma columns of a frame `width` wide that chroma column `x` covers.
VHARM_HD int sites_across(int64_t width, int64_t x, int log2_x) {
  const int64_t left = width - (x << log2_x);
  return static_cast<int>(left < (1 << log2_x) ? left : (1 << log2_x));
}

}  // namespace VHARM_ISA
}  // namespace vharm
