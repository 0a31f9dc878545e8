// SPDX-License-Identifier: Apache-2.0
// 3-D look-up tables: the per-pixel mathematics, once for every device, and the launchers.
//
// Nodes are counted in floats: with at most 129 nodes an axis every index is below 2^24, so float
// arithmetic on indices is exact and needs no second vector type.
#pragma once

#include "vharm/scalar.hpp"
#include "vharm/types.hpp"

namespace vharm {

// The codes are part of the interface (vharm/ops/lut.py: INTERPOLATIONS).
enum class Interpolation : int { tetrahedral = 0, trilinear = 1 };

constexpr int kMinLutSize = 2, kMaxLutSize = 129;

// Tables [batch, size, size, size, 3] indexed [r][g][b], contiguous; batch is 1 or the images' n.
struct LutView {
  const float* data;
  int64_t batch;
  int size;
};

// ---- per pixel ----------------------------------------------------------------------------------

// A colour's cell: its lowest node's index, and the place in it, 0 to 1, of each channel.
template <class F>
struct LutCell {
  F node, r, g, b;
};

// Coordinate of one channel, split into node and place. A NaN ends up in the place alone. The last
// cell holds its upper face.
template <class F>
VHARM_HD F lut_node(F v, float last, F& place) {
  const F x = vmax(F(0.0f), vmin(F(1.0f), v)) * F(last);
  const F node = vmin(vtrunc(vmax(x, F(0.0f))), F(last - 1.0f));
  place = x - node;
  return node;
}

template <class F>
VHARM_HD LutCell<F> lut_cell(F r, F g, F b, int size) {
  LutCell<F> cell;
  const float last = float(size - 1);
  const F nr = lut_node(r, last, cell.r), ng = lut_node(g, last, cell.g);
  const F nb = lut_node(b, last, cell.b);
  cell.node = vfma(vfma(nr, F(float(size)), ng), F(float(size)), nb);
  return cell;
}

// The way from a cell's lowest to its highest node along the axes, the largest place first; of
// equal places red goes before green before blue.
template <class F>
struct LutPath {
  F one, two;        // index steps from the lowest node to the second and third
  F high, mid, low;  // the places in order; a NaN is in `high`
};

template <class F>
VHARM_HD LutPath<F> lut_path(const LutCell<F>& cell, int size) {
  const float sr = float(size) * float(size), sg = float(size), sb = 1.0f;
  const auto rg = less_equal(cell.g, cell.r), rb = less_equal(cell.b, cell.r);
  const auto gb = less_equal(cell.b, cell.g);
  LutPath<F> path;
  path.one = select(both(rg, rb), F(sr), select(gb, F(sg), F(sb)));
  // All steps but the last one.
  path.two = select(both(rb, gb), F(sr + sg), select(rg, F(sr + sb), F(sg + sb)));
  const F small = vmin(cell.r, cell.g), large = vmax(cell.r, cell.g), t = vmin(large, cell.b);
  path.low = vmin(small, t);
  path.mid = vmax(small, t);
  path.high = vfma((cell.r + cell.g) + cell.b, F(0.0f), vmax(large, cell.b));
  return path;
}

// ---- launchers ----------------------------------------------------------------------------------

// out = m * lut(image) + (1 - m) * image, the image itself where m is 0. 8-bit images may be
// computed in fixed point: within one level of the exact result.
VHARM_API Status apply_lut(const ImageView& image, const MaskView& mask, const LutView& lut,
                           Interpolation interpolation, const ImageView& out, int threads);

// One frame's YUV planes to YUV planes; the table is the first of `lut`, the mask has one value
// per luma sample.
VHARM_API Status apply_lut_yuv(const PlaneView* planes, const MaskView& mask, const LutView& lut,
                               Interpolation interpolation, const YuvFormat& format,
                               const PlaneView* out, int threads);

// grad_image, grad_mask (data) and grad_lut may be null. grad_lut, like the tables, is overwritten.
// Where m is 0 the mask gets no gradient.
VHARM_API Status apply_lut_backward(const ImageView& grad, const ImageView& image,
                                    const MaskView& mask, const LutView& lut,
                                    Interpolation interpolation, const ImageView& grad_image,
                                    const MaskView& grad_mask, float* grad_lut, int threads);

// sums [n, size, size, size, 4]: for every node the trilinearly weighted sums of the target (less
// the source if `offset`) and of the weights. Pixels with a NaN in their source, or with values
// that are not finite, add nothing.
VHARM_API Status lut_splat(const ImageView& source, const ImageView& target, const MaskView& mask,
                           int size, bool offset, float* sums, int threads);

}  // namespace vharm
