// SPDX-License-Identifier: Apache-2.0
// One frame's planes laid over another's by a mask.
#include "cpu/yuv.hpp"
#include "vharm/yuv.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

// Weights are padded with zeros. Straight: back + w (front - back), exact at 0 and 1.
// Premultiplied: front + (1 - w)(back - zero). Where the weight is 0: back.
void mix(const PlaneView& front, const PlaneView& back, const PlaneView& out, int64_t y, int64_t x,
         int n, const float* weight, float zero, bool premultiplied, float maximum) {
  alignas(64) float f[kSpan], b[kSpan];
  const auto place = [&](const PlaneView& p) { return at(p.data, p.dtype, y * p.sh + x * p.sw); };
  load_plane(place(front), front.dtype, front.sw, n, 1, f);
  load_plane(place(back), back.dtype, back.sw, n, 1, b);
  const vf nothing(zero), one(1.0f);
  for (int i = 0; i < n; i += kWidth) {
    const vf w = load(weight + i), top = load(f + i), below = load(b + i);
    const vf over =
        premultiplied ? vfma(one - w, below - nothing, top) : vfma(w, top - below, below);
    store(b + i, select(less(vf(0.0f), w), over, below));
  }
  store_plane(b, place(out), out.dtype, out.sw, n, 1, 0, maximum);
}

void copy_row(const PlaneView& from, const PlaneView& to, int64_t y, int64_t x, int n) {
  const int size = sample_size(from.dtype);
  char* q = at(to.data, to.dtype, y * to.sh + x * to.sw);
  const char* p = at(from.data, from.dtype, y * from.sh + x * from.sw);
  if (from.sw == 1 && to.sw == 1) {
    memcpy(q, p, size_t(n) * size);
  } else {
    for (int i = 0; i < n; ++i) memcpy(q + i * to.sw * size, p + i * from.sw * size, size);
  }
}

}  // namespace

Status composite_yuv(const PlaneView* front, const PlaneView* back, const MaskView& mask,
                     const YuvFormat& format, bool premultiplied, const PlaneView* out,
                     int threads) {
  if (format.log2_x > 2 || format.log2_y > 2) return Status::unsupported;
  const PlaneView& luma = back[0];
  const int rows_max = 1 << format.log2_y;
  parallel_for((luma.h + rows_max - 1) >> format.log2_y, threads, [&](int64_t band) {
    alignas(64) float m[kSpan], sums[kSpan];
    const int64_t y0 = band << format.log2_y;
    const int rows = static_cast<int>(luma.h - y0 < rows_max ? luma.h - y0 : rows_max);
    for (int64_t x = 0; x < luma.w; x += kSpan) {
      const int columns = static_cast<int>(luma.w - x < kSpan ? luma.w - x : kSpan);
      const int chroma = (columns + (1 << format.log2_x) - 1) >> format.log2_x;
      const int64_t cx = x >> format.log2_x;
      memset(sums, 0, sizeof sums);
      bool touched = false;
      for (int r = 0; r < rows; ++r) {
        const MaskSpan span = load_mask(mask, (y0 + r) * mask.sh + x * mask.sw, columns, m);
        if (span.begin == span.end) {
          copy_row(back[0], out[0], y0 + r, x, columns);
          continue;
        }
        touched = true;
        gather_sites(m, columns, format.log2_x, sums);
        mix(front[0], back[0], out[0], y0 + r, x, columns, m, format.offset[0], premultiplied,
            format.maximum);
      }
      for (int i = 0; touched && i < chroma; ++i) {
        sums[i] /= rows * sites_across(luma.w, cx + i, format.log2_x);
      }
      for (int c = 1; c < 3; ++c) {
        if (touched) {
          mix(front[c], back[c], out[c], band, cx, chroma, sums, format.offset[c], premultiplied,
              format.maximum);
        } else {
          copy_row(back[c], out[c], band, cx, chroma);
        }
      }
    }
  });
  return Status::ok;
}

}  // namespace VHARM_ISA
}  // namespace vharm
