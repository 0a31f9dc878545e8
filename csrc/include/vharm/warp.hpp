// SPDX-License-Identifier: Apache-2.0
// Warping by a flow: the per-pixel mathematics, once for every device, and the launchers.
//
// The whole part of a displacement is split off before the pixel's own coordinate is added: the
// weights keep the displacement's full precision, and neighbours that move alike have the same
// whole part, whatever their place in the frame.
#pragma once

#include "vharm/types.hpp"

namespace vharm {

// ---- per pixel ----------------------------------------------------------------------------------

// Whole numbers up to here are exact in float; a larger displacement leaves any frame.
constexpr float kFarFlow = 16777216.0f;
constexpr int64_t kMaxWarpSize = int64_t(1) << 23;  // pixels along an axis

// One axis of a sample's place: the first of its two taps, from -2 (both are outside) to size
// (likewise), and the way to the second, 0 to 1.
struct WarpTap {
  int at;
  float f;
};

VHARM_HD float warp_floor(float a) {
  const float t = float(int(a));
  return a < t ? t - 1.0f : t;
}

// A NaN counts as minus infinity.
VHARM_HD WarpTap warp_tap(float displacement, int64_t pixel, int64_t size) {
  float d = displacement > -kFarFlow ? displacement : -kFarFlow;
  d = d < kFarFlow ? d : kFarFlow;
  const float whole = warp_floor(d);
  int64_t at = pixel + int64_t(whole);
  at = at < -2 ? -2 : (at > size ? size : at);
  return {int(at), d - whole};
}

// The sample lies inside [0, size - 1].
VHARM_HD bool warp_inside(const WarpTap& t, int64_t size) {
  return t.at >= 0 && t.at + (t.f > 0.0f ? 1 : 0) < size;
}

VHARM_HD int warp_clamp(int at, int64_t size) {
  return at < 0 ? 0 : (at < size ? at : int(size - 1));
}

// Whether a flow f and the one found where it leads, b, belong together.
VHARM_HD bool flows_agree(float fx, float fy, float bx, float by, float alpha, float beta) {
  const float gx = fx + bx, gy = fy + by;
  const float size = (fx * fx + fy * fy) + (bx * bx + by * by);
  return gx * gx + gy * gy < alpha * size + beta;
}

// ---- launchers ----------------------------------------------------------------------------------
//
// Images have planar rows (sw == 1) or interleaved channels (sc == 1), all of one call the same;
// other layouts are unsupported on the CPU. Flows are float32, (dx, dy) as two channels, of any
// strides, and so are masks and the flow's gradient. Axes are shorter than kMaxWarpSize.

// out(p) = image(p + flow(p)), bilinear; taps outside are 0, or with `border` the nearest inside.
// `valid` (data may be null; u8): 1 where the sample lies inside the frame, else 0.
VHARM_API Status flow_warp(const TensorView& image, const TensorView& flow, bool border,
                           const TensorView& out, const TensorView& valid, int threads);

// grad_image (float32, dense) and grad_flow may have null data; both are overwritten.
// Every pixel of grad_image is summed in the order of the pixels that reach it: the result does
// not depend on the number of threads.
VHARM_API Status flow_warp_backward(const TensorView& grad, const TensorView& image,
                                    const TensorView& flow, bool border,
                                    const TensorView& grad_image, const TensorView& grad_flow,
                                    int threads);

// With w = mask * valid where the sample lies inside the frame, else 0:
// loss[n] = sum w^2 (current - warped previous)^2 / (c sum w), weight[n] = sum w; 0 if that is 0.
VHARM_API Status temporal_loss(const TensorView& current, const TensorView& previous,
                               const TensorView& flow, const MaskView& mask, const MaskView& valid,
                               float* loss, float* weight, int threads);

// The gradient of current is scale[n] w^2 (current - warped previous), and so on from there.
// grad_current has the images' dtype, grad_previous float32; any may have null data.
VHARM_API Status temporal_loss_backward(const float* scale, const TensorView& current,
                                        const TensorView& previous, const TensorView& flow,
                                        const MaskView& mask, const MaskView& valid,
                                        const TensorView& grad_current,
                                        const TensorView& grad_previous,
                                        const TensorView& grad_flow, int threads);

// out (u8): 1 where |f + b|^2 < alpha (|f|^2 + |b|^2) + beta, b the backward flow (an image of two
// channels) at p + f, inside the frame; else 0.
VHARM_API Status flow_consistency(const TensorView& forward, const TensorView& backward,
                                  float alpha, float beta, const TensorView& out, int threads);

}  // namespace vharm
