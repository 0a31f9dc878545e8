// SPDX-License-Identifier: Apache-2.0
// The driver of colour operations on the CPU. An operation is a function over a short planar run
// of float RGB; the driver brings it every dtype, layout, mask and YUV format.
#pragma once

#include "cpu/pixels.hpp"
#include "runtime/parallel.hpp"

namespace vharm {
namespace VHARM_ISA {

struct SpanOp {
  // Changes n pixels of the batch's image `image`; the planes are padded to whole vectors.
  void (*run)(const void* self, int64_t image, float* r, float* g, float* b, int n);
  const void* self;
};

Status apply_image(const SpanOp& op, ImageView image, MaskView mask, ImageView out, int threads);

// Same for one frame's planes. Samples whose mask is zero (chroma: whose luma sites' masks all
// are) come out as they went in. The mask has one value per luma sample.
Status apply_yuv(const SpanOp& op, const PlaneView* planes, const MaskView& mask,
                 const YuvFormat& format, const PlaneView* out, int threads);

// An image's spans, in blocks of kBlockSpans: the unit of parallel work and of summation, whose
// size does not depend on the number of threads.
constexpr int kBlockSpans = 16;

struct Blocks {
  int64_t spans_per_row, spans_per_image, blocks_per_image;
  int64_t w;

  VHARM_HD Blocks(int64_t h, int64_t width) : w(width) {
    spans_per_row = (width + kSpan - 1) / kSpan;
    spans_per_image = h * spans_per_row;
    blocks_per_image = (spans_per_image + kBlockSpans - 1) / kBlockSpans;
  }

  // Calls body(y, x, count) for every span of a block.
  template <class Body>
  VHARM_HD void each(int64_t block, const Body& body) const {
    const int64_t first = block * kBlockSpans;
    const int64_t last =
        first + kBlockSpans < spans_per_image ? first + kBlockSpans : spans_per_image;
    for (int64_t s = first; s < last; ++s) {
      const int64_t x = s % spans_per_row * kSpan;
      body(s / spans_per_row, x, static_cast<int>(w - x < kSpan ? w - x : kSpan));
    }
  }
};

// Treats the image as one long row where every given view allows it, so that narrow images fill
// whole spans.
template <class... Views>
VHARM_HD void join_rows(int64_t& h, int64_t& w, bool mask_joins, Views&... views) {
  if (!mask_joins || !((views.data == nullptr || views.sh == w * views.sw) && ...)) return;
  w *= h;
  h = 1;
  ((views.w = w, views.h = 1, views.sh = 0), ...);
}
VHARM_HD bool joins(const MaskView& mask, int64_t w) {
  return mask.data == nullptr || mask.sh == w * mask.sw;
}

}  // namespace VHARM_ISA
}  // namespace vharm
