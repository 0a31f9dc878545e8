// SPDX-License-Identifier: Apache-2.0
// Y'CbCr planes: conversion and shrinking. Colour operations on planes are declared with their
// families (filter_chain_yuv in filters.hpp, apply_lut_yuv in lut.hpp).
#pragma once

#include "vharm/types.hpp"

namespace vharm {

// Planes to RGB [1, H, W]; chroma is repeated over the luma sites it covers.
VHARM_API Status yuv_to_rgb(const PlaneView* planes, const YuvFormat& format, const ImageView& rgb,
                            int threads);

// RGB to planes; chroma is the mean over the luma sites it covers.
VHARM_API Status rgb_to_yuv(const ImageView& rgb, const YuvFormat& format, const PlaneView* planes,
                            int threads);

// One frame over another of the same format by a mask, straight or premultiplied. Luma whose mask
// is 0, and chroma all of whose luma sites have mask 0, come out as the background's.
VHARM_API Status composite_yuv(const PlaneView* foreground, const PlaneView* background,
                               const MaskView& mask, const YuvFormat& format, bool premultiplied,
                               const PlaneView* out, int threads);

// Area average of a plane of any dtype, in its own sample units; `out` is float and not larger.
VHARM_API Status shrink_plane(const PlaneView& plane, const PlaneView& out, int threads);

// Sums over the points of a grid: sums[c] = sum of w * planes[c] and sums[count] = sum of w, over
// every step-th row and column of the mask, with w = max(mask - black, 0). Planes after the first
// may be subsampled, and step is then a multiple of that.
VHARM_API Status plane_sums(const PlaneView* planes, int count, const PlaneView& mask, float black,
                            int64_t step, int log2_x, int log2_y, double* sums);

}  // namespace vharm
