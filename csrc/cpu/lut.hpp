// SPDX-License-Identifier: Apache-2.0
// Interpolation in float tables over vectors of pixels; shared by the forward and backward passes.
#pragma once

#include "cpu/apply.hpp"
#include "cpu/gather.hpp"
#include "vharm/lut.hpp"

namespace vharm {
namespace VHARM_ISA {

VHARM_HD const float* lut_of(const LutView& lut, int64_t n) {
  const int64_t nodes = int64_t(lut.size) * lut.size * lut.size;
  return lut.data + (lut.batch > 1 ? n * nodes * 3 : 0);
}

struct Colour {
  vf v[3];
};

VHARM_HD Colour lut_colour(const float* table, vf node) {
  const vindex i = times3(to_index(node));
  return {{gather(table, i), gather(table + 1, i), gather(table + 2, i)}};
}

VHARM_HD Colour scaled(vf w, const Colour& c) { return {{w * c.v[0], w * c.v[1], w * c.v[2]}}; }
VHARM_HD void add_scaled(vf w, const Colour& c, Colour& sum) {
  for (int k = 0; k < 3; ++k) sum.v[k] = vfma(w, c.v[k], sum.v[k]);
}

// A cell's nodes, four (tetrahedral) or eight (trilinear, bits r g b of the corner), as indices.
struct Nodes {
  vf index[8], weight[8];
};

VHARM_HD void tetrahedral_nodes(const LutCell<vf>& cell, const LutPath<vf>& path, int size,
                                Nodes& nodes) {
  nodes.index[0] = cell.node;
  nodes.index[1] = cell.node + path.one;
  nodes.index[2] = cell.node + path.two;
  nodes.index[3] = cell.node + vf(float(size) * float(size) + float(size) + 1.0f);
  nodes.weight[0] = vf(1.0f) - path.high;
  nodes.weight[1] = path.high - path.mid;
  nodes.weight[2] = path.mid - path.low;
  nodes.weight[3] = path.low;
}

VHARM_HD void trilinear_nodes(const LutCell<vf>& cell, int size, Nodes& nodes) {
  const vf one(1.0f);
  const vf wr[2] = {one - cell.r, cell.r}, wg[2] = {one - cell.g, cell.g};
  const vf wb[2] = {one - cell.b, cell.b};
  const float s = float(size);
  for (int k = 0; k < 8; ++k) {
    const int r = k >> 2, g = k >> 1 & 1, b = k & 1;
    nodes.index[k] = cell.node + vf(float(r) * s * s + float(g) * s + float(b));
    nodes.weight[k] = wr[r] * wg[g] * wb[b];
  }
}

}  // namespace VHARM_ISA
}  // namespace vharm
