// SPDX-License-Identifier: Apache-2.0
#include "cpu/apply.hpp"

#include "cpu/yuv.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

// out = original + m * (changed - original), and the original itself where m is 0.
void blend(const Span& original, const float* mask, int begin, int n, Span& changed) {
  const float* from[3] = {original.r, original.g, original.b};
  float* to[3] = {changed.r, changed.g, changed.b};
  for (int c = 0; c < 3; ++c) {
    for (int i = 0; i < n; i += kWidth) {
      const vf m = load(mask + begin + i), v = load(from[c] + i), h = load(to[c] + i);
      const vf mixed = vfma(m, h, vfma(m, vf(-1.0f) * v, v));
      store(to[c] + i, select(less(vf(0.0f), m), mixed, v));
    }
  }
}

// The library's own: for the few hundred bytes of a span the compiler writes `rep movs`, which
// takes longer to begin than to copy.
__attribute__((noinline)) void copy_bytes(char* to, const char* from, size_t bytes) {
  memcpy(to, from, bytes);
}

}  // namespace

Status apply_image(const SpanOp& op, ImageView image, MaskView mask, ImageView out, int threads) {
  int64_t h = image.h, w = image.w;
  join_rows(h, w, joins(mask, w), image, out);
  const Blocks blocks(h, w);
  parallel_for(image.n * blocks.blocks_per_image, threads, [&](int64_t task) {
    const int64_t n = task / blocks.blocks_per_image;
    Span changed, original;
    alignas(64) float m[kSpan];
    blocks.each(task % blocks.blocks_per_image, [&](int64_t y, int64_t x, int count) {
      const auto in_at = [&](int64_t i) {
        return n * image.sn + y * image.sh + (x + i) * image.sw;
      };
      const auto out_at = [&](int64_t i) { return n * out.sn + y * out.sh + (x + i) * out.sw; };
      const MaskSpan touched = load_mask(mask, n * mask.sn + y * mask.sh + x * mask.sw, count, m);
      if (touched.begin > 0 || touched.begin == touched.end) {
        const int until = touched.begin == touched.end ? count : touched.begin;
        copy_span(image, in_at(0), out, out_at(0), until);
      }
      if (touched.begin == touched.end) return;
      if (touched.end < count) {
        copy_span(image, in_at(touched.end), out, out_at(touched.end), count - touched.end);
      }
      const int length = touched.end - touched.begin;
      load_span(image, in_at(touched.begin), length, changed);
      if (!touched.full) original = changed;
      op.run(op.self, n, changed.r, changed.g, changed.b, length);
      if (!touched.full) blend(original, m, touched.begin, length, changed);
      store_span(changed, out, out_at(touched.begin), length);
    });
  });
  return Status::ok;
}

Status apply_yuv(const SpanOp& op, const PlaneView* planes, const MaskView& mask,
                 const YuvFormat& format, const PlaneView* out, int threads) {
  if (format.log2_x > 2 || format.log2_y > 2) return Status::unsupported;
  const YuvMatrices matrices(format);
  const PlaneView& luma = planes[0];
  const int rows_max = 1 << format.log2_y;
  const int64_t bands = (luma.h + rows_max - 1) >> format.log2_y;
  const int step = kSpan;  // luma columns; a multiple of every subsampling

  const auto sample = [](const PlaneView& p, int64_t y, int64_t x) {
    return at(p.data, p.dtype, y * p.sh + x * p.sw);
  };
  // Written over themselves, samples that the mask leaves alone are where they belong.
  const bool in_place = out[0].data == planes[0].data;
  const auto copy = [&](int plane, int64_t y, int64_t x, int count) {
    if (in_place) return;
    const PlaneView &p = planes[plane], &q = out[plane];
    const int size = sample_size(p.dtype);
    if (p.sw == 1 && q.sw == 1) {
      copy_bytes(sample(q, y, x), sample(p, y, x), size_t(count) * size);
    } else {
      for (int i = 0; i < count; ++i) memcpy(sample(q, y, x + i), sample(p, y, x + i), size);
    }
  };

  const auto untouched = [&](int64_t y, int rows) {
    if (mask.data == nullptr || mask.dtype != DType::u8 || mask.sw != 1) return false;
    const auto* from = static_cast<const uint8_t*>(mask.data) + y * mask.sh;
    for (int r = 0; r < rows; ++r) {
      if (!none_above(from + r * mask.sh, static_cast<int>(luma.w), mask.black)) return false;
    }
    return true;
  };

  parallel_for(bands, threads, [&](int64_t band) {
    Span rgb;
    alignas(64) float m[kSpan], y_in[kSpan], u_in[kSpan], v_in[kSpan], u_wide[kSpan], v_wide[kSpan];
    alignas(64) float u_sum[kSpan], v_sum[kSpan];
    const int64_t y0 = band << format.log2_y;
    const int rows = static_cast<int>(luma.h - y0 < rows_max ? luma.h - y0 : rows_max);
    if (untouched(y0, rows)) {
      if (in_place) return;
      for (int r = 0; r < rows; ++r) copy(0, y0 + r, 0, static_cast<int>(luma.w));
      for (int c = 1; c < 3; ++c) copy(c, band, 0, static_cast<int>(planes[c].w));
      return;
    }
    for (int64_t x = 0; x < luma.w; x += step) {
      const int columns = static_cast<int>(luma.w - x < step ? luma.w - x : step);
      const int chroma = (columns + (1 << format.log2_x) - 1) >> format.log2_x;
      const int64_t cx = x >> format.log2_x;
      bool loaded = false;
      for (int r = 0; r < rows; ++r) {
        const int64_t y = y0 + r;
        const MaskSpan touched = load_mask(mask, y * mask.sh + x * mask.sw, columns, m);
        if (touched.begin == touched.end) {
          copy(0, y, x, columns);
          continue;
        }
        if (!loaded) {
          loaded = true;
          load_plane(sample(planes[1], band, cx), planes[1].dtype, planes[1].sw, chroma, 1, u_in);
          load_plane(sample(planes[2], band, cx), planes[2].dtype, planes[2].sw, chroma, 1, v_in);
          repeat_sites(u_in, chroma, format.log2_x, u_wide, columns);
          repeat_sites(v_in, chroma, format.log2_x, v_wide, columns);
          memset(u_sum, 0, sizeof u_sum);
          memset(v_sum, 0, sizeof v_sum);
        }
        // Whole chroma sites, whole vectors.
        const int begin = touched.begin / kWidth * kWidth, end = touched.end;
        const int count = end - begin;
        if (begin > 0) copy(0, y, x, begin);
        if (end < columns) copy(0, y, x + end, columns - end);
        load_plane(sample(luma, y, x + begin), luma.dtype, luma.sw, count, 1, y_in);
        for (int i = 0; i < count; i += kWidth) {
          const Rgb<vf> v =
              matrices.rgb(load(y_in + i), load(u_wide + begin + i), load(v_wide + begin + i));
          store(rgb.r + i, v.r);
          store(rgb.g + i, v.g);
          store(rgb.b + i, v.b);
        }
        op.run(op.self, 0, rgb.r, rgb.g, rgb.b, count);
        for (int i = 0; i < count; i += kWidth) {
          const Rgb<vf> v{load(rgb.r + i), load(rgb.g + i), load(rgb.b + i)};
          const vf mi = load(m + begin + i), yi = load(y_in + i);
          const vf changed = vfma(mi, matrices.sample(0, v) - yi, yi);
          store(y_in + i, changed);
          store(rgb.g + i, mi * (matrices.sample(1, v) - load(u_wide + begin + i)));
          store(rgb.b + i, mi * (matrices.sample(2, v) - load(v_wide + begin + i)));
        }
        gather_sites(rgb.g, count, format.log2_x, u_sum + (begin >> format.log2_x));
        gather_sites(rgb.b, count, format.log2_x, v_sum + (begin >> format.log2_x));
        store_plane(y_in, sample(out[0], y, x + begin), out[0].dtype, out[0].sw, count, 1, 0,
                    format.maximum);
      }
      if (!loaded) {
        copy(1, band, cx, chroma);
        copy(2, band, cx, chroma);
        continue;
      }
      for (int i = 0; i < chroma; ++i) {
        const int sites = rows * sites_across(luma.w, cx + i, format.log2_x);
        u_in[i] += u_sum[i] / sites;
        v_in[i] += v_sum[i] / sites;
      }
      float* values[2] = {u_in, v_in};
      for (int c = 1; c < 3; ++c) {
        store_plane(values[c - 1], sample(out[c], band, cx), out[c].dtype, out[c].sw, chroma, 1, 0,
                    format.maximum);
      }
    }
  });
  return Status::ok;
}

}  // namespace VHARM_ISA
}  // namespace vharm
