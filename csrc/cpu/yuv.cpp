// SPDX-License-Identifier: Apache-2.0
#include "vharm/yuv.hpp"

#include "cpu/yuv.hpp"

namespace vharm {
namespace VHARM_ISA {
Status yuv_to_rgb(const PlaneView* planes, const YuvFormat& format, const ImageView& rgb,
                  int threads) {
  if (format.log2_x > 2 || format.log2_y > 2) return Status::unsupported;
  const YuvMatrices k(format);
  const PlaneView& luma = planes[0];
  parallel_for(luma.h, threads, [&](int64_t y) {
    Span out;
    alignas(64) float in[3][kSpan], wide[2][kSpan];
    const int64_t cy = y >> format.log2_y;
    for (int64_t x = 0; x < luma.w; x += kSpan) {
      const int columns = static_cast<int>(luma.w - x < kSpan ? luma.w - x : kSpan);
      const int chroma = (columns + (1 << format.log2_x) - 1) >> format.log2_x;
      load_plane(sample(luma, y, x), luma.dtype, luma.sw, columns, 1, in[0]);
      for (int c = 1; c < 3; ++c) {
        load_plane(sample(planes[c], cy, x >> format.log2_x), planes[c].dtype, planes[c].sw, chroma,
                   1, in[c]);
        repeat_sites(in[c], chroma, format.log2_x, wide[c - 1], columns);
      }
      for (int i = 0; i < columns; i += kWidth) {
        const Rgb<vf> v = k.rgb(load(in[0] + i), load(wide[0] + i), load(wide[1] + i));
        store(out.r + i, v.r);
        store(out.g + i, v.g);
        store(out.b + i, v.b);
      }
      store_span(out, rgb, y * rgb.sh + x * rgb.sw, columns);
    }
  });
  return Status::ok;
}

Status rgb_to_yuv(const ImageView& rgb, const YuvFormat& format, const PlaneView* planes,
                  int threads) {
  if (format.log2_x > 2 || format.log2_y > 2) return Status::unsupported;
  const YuvMatrices k(format);
  const int rows_max = 1 << format.log2_y;
  parallel_for((rgb.h + rows_max - 1) >> format.log2_y, threads, [&](int64_t band) {
    Span in;
    alignas(64) float y_row[kSpan], row[2][kSpan], sums[2][kSpan];
    const int64_t y0 = band << format.log2_y;
    const int rows = static_cast<int>(rgb.h - y0 < rows_max ? rgb.h - y0 : rows_max);
    for (int64_t x = 0; x < rgb.w; x += kSpan) {
      const int columns = static_cast<int>(rgb.w - x < kSpan ? rgb.w - x : kSpan);
      const int chroma = (columns + (1 << format.log2_x) - 1) >> format.log2_x;
      memset(sums, 0, sizeof sums);
      for (int r = 0; r < rows; ++r) {
        load_span(rgb, (y0 + r) * rgb.sh + x * rgb.sw, columns, in);
        for (int i = 0; i < columns; i += kWidth) {
          const Rgb<vf> v{load(in.r + i), load(in.g + i), load(in.b + i)};
          store(y_row + i, k.sample(0, v));
          store(row[0] + i, k.sample(1, v));
          store(row[1] + i, k.sample(2, v));
        }
        for (int c = 0; c < 2; ++c) gather_sites(row[c], columns, format.log2_x, sums[c]);
        store_plane(y_row, sample(planes[0], y0 + r, x), planes[0].dtype, planes[0].sw, columns, 1,
                    0, format.maximum);
      }
      for (int c = 0; c < 2; ++c) {
        for (int i = 0; i < chroma; ++i) {
          sums[c][i] /= rows * sites_across(rgb.w, (x >> format.log2_x) + i, format.log2_x);
        }
        const PlaneView& plane = planes[c + 1];
        store_plane(sums[c], sample(plane, band, x >> format.log2_x), plane.dtype, plane.sw, chroma,
                    1, 0, format.maximum);
      }
    }
  });
  return Status::ok;
}

}  // namespace VHARM_ISA
}  // namespace vharm
