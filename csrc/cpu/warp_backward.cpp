// SPDX-License-Identifier: Apache-2.0
// Gradients of warps and of the temporal loss.
//
// The image's gradient is shared out in bands of rows. Each band goes through the pixels whose taps
// can reach it (a first look at the flow gives every row's reach), in their order, and adds what
// falls into its own rows: no two threads write to the same place, no sum depends on the number of
// bands, and nothing is buffered. A smooth flow makes a band's halo a few rows; any flow is exact.
// The flow's gradient, and the current frame's, come along where a band meets its own rows.
#include <stdlib.h>

#include "cpu/warp.hpp"
#include "cpu/warp_scatter.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

struct Reach {
  int32_t first, last;  // rows that a row's taps touch
};

// Clamped at the edges with `border`; rows -2 to h + 1 otherwise.
Reach reach_of(const TensorView& flow, int64_t n, int64_t y, bool border) {
  alignas(64) float dx[kSpan], dy[kSpan];
  const float h = float(flow.h);
  vf low(h), high(-2.0f), f;
  for (int64_t x = 0; x < flow.w; x += kSpan) {
    const int count = flow.w - x < kSpan ? int(flow.w - x) : kSpan;
    load_flow(flow, n, y, x, count, dx, dy);
    for (int i = 0; i < count; i += kWidth) {
      const vf t = split_flow(load(dy + i), vf(float(y)), h, f);
      low = vmin(low, t);
      high = vmax(high, t);
    }
  }
  alignas(64) float l[kWidth], g[kWidth];
  store(l, low);
  store(g, high);
  for (int k = 1; k < kWidth; ++k) {
    l[0] = l[k] < l[0] ? l[k] : l[0];
    g[0] = g[k] > g[0] ? g[k] : g[0];
  }
  const int first = int(l[0]), last = int(g[0]) + 1;
  if (!border) return {first, last};
  return {warp_clamp(first, flow.h), warp_clamp(last, flow.h)};
}

struct Band {
  int64_t n, begin, end;
  bool owns(int64_t y) const { return y >= begin && y < end; }
};

// Calls body(band, y, own, reaches) for the rows that concern each band: with `scatters` those that
// reach it, and with `gathers` its own. Before a row reaches new ones of the band, clear(n, begin,
// end) is called for these: they are in the cache when they are summed.
template <class Clear, class Body>
Status each_band(const TensorView& flow, bool border, bool scatters, bool gathers, int threads,
                 const Clear& clear, const Body& body) {
  const int64_t rows = flow.n * flow.h;
  if (rows == 0) return Status::ok;
  Reach* reach = nullptr;
  int64_t height = kRowsPerTask;
  if (scatters) {
    reach = static_cast<Reach*>(malloc(size_t(rows) * sizeof(Reach)));
    if (reach == nullptr) return Status::out_of_memory;
    const int64_t parts = (rows + kRowsPerTask - 1) / kRowsPerTask;
    parallel_for(parts, threads, [&](int64_t part) {
      const int64_t end = (part + 1) * kRowsPerTask;
      for (int64_t i = part * kRowsPerTask; i < (end < rows ? end : rows); ++i) {
        reach[i] = reach_of(flow, i / flow.h, i % flow.h, border);
      }
    });
    int64_t widest = 0;
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t span = reach[i].last - reach[i].first;
      widest = span > widest ? span : widest;
    }
    // The rows around a band's edges are gone through twice: bands are high beside a row's reach,
    // and as many for each thread, down to one where rows reach far.
    const int64_t equal = threads > 1 ? threads : 1, least = 32 * (widest + 1) * equal;
    const int64_t each = flow.h / least > 1 ? flow.h / least : 1;
    height = (flow.h + equal * each - 1) / (equal * each);
  }
  const int64_t bands = (flow.h + height - 1) / height;
  parallel_for(flow.n * bands, threads, [&](int64_t task) {
    const int64_t begin = task % bands * height;
    const Band band{task / bands, begin, begin + height < flow.h ? begin + height : flow.h};
    int64_t cleared = scatters ? band.begin : band.end;
    const auto clear_to = [&](int64_t end) {
      end = end < band.end ? end : band.end;
      if (end <= cleared) return;
      clear(band.n, cleared, end);
      cleared = end;
    };
    for (int64_t y = 0; y < flow.h; ++y) {
      const bool own = gathers && band.owns(y);
      bool reaches = false;
      if (scatters) {
        const Reach r = reach[band.n * flow.h + y];
        reaches = r.first < band.end && r.last >= band.begin;
        if (reaches) clear_to(int64_t(r.last) + 1);
      }
      if (own || reaches) body(band, y, own, reaches);
    }
    clear_to(band.end);
  });
  free(reach);
  return Status::ok;
}

// Sets rows of a gradient to zero.
void clear_rows(const TensorView& v, int64_t n, int64_t begin, int64_t end) {
  auto* p = static_cast<float*>(v.data) + n * v.sn;
  const size_t across = size_t(v.w * (interleaved(v) ? v.sw : 1)) * sizeof(float);
  for (int64_t c = 0; c < (interleaved(v) ? 1 : v.c); ++c) {
    for (int64_t y = begin; y < end; ++y) memset(p + c * v.sc + y * v.sh, 0, across);
  }
}

// What is done with a group's gradients of a run, at its pixels.
struct Sink {
  const TensorView &image, &grad_image, &grad_flow;
  const Spread& places;

  void scatter(const Route& r, const Band& band, const Group& g, const float* grad) const {
    auto* p =
        static_cast<float*>(grad_image.data) + band.n * grad_image.sn + g.first * grad_image.sc;
    const Target to{p, grad_image.sh, grad_image.sw, band.begin, band.end};
    if (interleaved(image)) {
      scatter_pixels(r, places, grad, g.count, to);
    } else {
      scatter_planes(r, grad, {to, grad_image.sc, g.planes});
    }
  }
  template <class T>
  void slopes(const Route& r, int64_t n, const Group& g, const float* grad, float* gx,
              float* gy) const {
    const T* p = static_cast<const T*>(image.data) + n * image.sn + g.first * image.sc;
    if (interleaved(image)) {
      slope_pixels(r, p, image.sh, image.sw, grad, g.count, gx, gy);
    } else {
      slope_planes(r, p, image.sc, image.sh, g.planes, grad, gx, gy);
    }
  }
  void keep_slopes(int64_t n, int64_t y, int64_t x, int count, const float* gx,
                   const float* gy) const {
    float* p = static_cast<float*>(grad_flow.data) + row_of(grad_flow, n, y, x);
    if (grad_flow.sw == 1) {
      prefetch_write(p + grad_flow.sh, count);
      prefetch_write(p + grad_flow.sh + grad_flow.sc, count);
    }
    store_plane(gx, p, DType::f32, grad_flow.sw, count, 1.0f, 0.0f, 1.0f);
    store_plane(gy, p + grad_flow.sc, DType::f32, grad_flow.sw, count, 1.0f, 0.0f, 1.0f);
  }
};

bool alike(const TensorView& a, const TensorView& b) {
  return known_layout(a) && known_layout(b) && interleaved(a) == interleaved(b);
}
// A null view is alike to anything.
bool fits(const TensorView& optional, const TensorView& image) {
  return optional.data == nullptr || alike(optional, image);
}

constexpr int kBuffer = kPacked + kMaxSpread * kWidth;

}  // namespace

Status flow_warp_backward(const TensorView& grad, const TensorView& image, const TensorView& flow,
                          bool border, const TensorView& grad_image, const TensorView& grad_flow,
                          int threads) {
  if (!alike(grad, image) || !fits(grad_image, image) || too_large(image)) {
    return Status::unsupported;
  }
  const bool wants_image = grad_image.data != nullptr, wants_flow = grad_flow.data != nullptr;
  const Spread places = spread_of(image);
  const Sink sink{image, grad_image, grad_flow, places};
  Status status = Status::ok;
  with_samples(image.dtype, [&](auto tag) {
    using T = typename Pointee<decltype(tag)>::type;
    status = each_band(
        flow, border, wants_image, wants_flow, threads,
        [&](int64_t n, int64_t begin, int64_t end) { clear_rows(grad_image, n, begin, end); },
        [&](const Band& band, int64_t y, bool own, bool reaches) {
          Route r;
          alignas(64) float g[kBuffer], gx[kSpan], gy[kSpan];
          each_run(flow.w, run_length(image), [&](int64_t x, int count) {
            route_span(flow, band.n, y, x, count, border, r);
            memset(gx, 0, sizeof gx);
            memset(gy, 0, sizeof gy);
            each_group(image, [&](const Group& group) {
              load_group(grad, band.n, y, x, count, group, g);
              if (reaches) sink.scatter(r, band, group, g);
              if (own) sink.slopes<T>(r, band.n, group, g, gx, gy);
            });
            if (own) sink.keep_slopes(band.n, y, x, count, gx, gy);
          });
        });
  });
  return status;
}

namespace {

// From the two frames to the gradient of the current one, in place of `now`: k d, k = scale w^2.
void differences(const float* w, float scale, const float* before, int count, int channels,
                 float* now) {
  if (channels == 1) {
    for (int i = 0; i < count; i += kWidth) {
      const vf k = load(w + i), g = (vf(scale) * k) * (k * (load(now + i) - load(before + i)));
      store(now + i, select(less(vf(0.0f), k), g, vf(0.0f)));
    }
    return;
  }
  for (int i = 0; i < count; ++i) {
    const float k = w[i];
    for (int c = i * channels; c < (i + 1) * channels; ++c) {
      now[c] = k > 0 ? (scale * k) * (k * (now[c] - before[c])) : 0.0f;
    }
  }
}

void negate(float* values, int count) {
  for (int i = 0; i < count; ++i) values[i] = -values[i];
}

}  // namespace

Status temporal_loss_backward(const float* scale, const TensorView& current,
                              const TensorView& previous, const TensorView& flow,
                              const MaskView& mask, const MaskView& valid,
                              const TensorView& grad_current, const TensorView& grad_previous,
                              const TensorView& grad_flow, int threads) {
  if (!alike(current, previous) || !fits(grad_current, current) || !fits(grad_previous, current) ||
      too_large(current)) {
    return Status::unsupported;
  }
  const bool wants_current = grad_current.data != nullptr;
  const bool wants_previous = grad_previous.data != nullptr, wants_flow = grad_flow.data != nullptr;
  const Spread places = spread_of(current);
  const Sink sink{previous, grad_previous, grad_flow, places};
  Status status = Status::ok;
  with_samples(current.dtype, [&](auto tag) {
    using T = typename Pointee<decltype(tag)>::type;
    const auto run = [&](const Band& band, int64_t y, bool own, bool reaches, int64_t x,
                         int count) {
      Route r;
      alignas(64) float w[kSpan], gx[kSpan], gy[kSpan], g[kBuffer], before[kBuffer];
      bool some = masked(mask, band.n, y, x, count);
      if (some) {
        route_span(flow, band.n, y, x, count, true, r);
        some = load_weight(mask, valid, band.n, y, x, r, w);
      }
      if (!some && !own) return;
      memset(gx, 0, sizeof gx);
      memset(gy, 0, sizeof gy);
      each_group(current, [&](const Group& group) {
        if (some) {
          load_group(current, band.n, y, x, count, group, g);
          sample_group<T>(r, places, previous, band.n, group, before);
          for (int k = 0; k < group.planes * kSpan; k += kSpan) {
            differences(w, scale[band.n], before + k, count, group.samples, g + k);
          }
        } else {
          memset(g, 0, sizeof g);
        }
        if (own && wants_current) store_group(g, grad_current, band.n, y, x, count, group);
        if (!some || !(reaches || (own && wants_flow))) return;
        for (int k = 0; k < group.planes; ++k) negate(g + k * kSpan, padded(count * group.samples));
        if (reaches) sink.scatter(r, band, group, g);
        if (own && wants_flow) sink.slopes<T>(r, band.n, group, g, gx, gy);
      });
      if (own && wants_flow) sink.keep_slopes(band.n, y, x, count, gx, gy);
    };
    status = each_band(
        flow, true, wants_previous, wants_current || wants_flow, threads,
        [&](int64_t n, int64_t begin, int64_t end) { clear_rows(grad_previous, n, begin, end); },
        [&](const Band& band, int64_t y, bool own, bool reaches) {
          each_run(flow.w, run_length(current),
                   [&](int64_t x, int count) { run(band, y, own, reaches, x, count); });
        });
  });
  return status;
}

}  // namespace VHARM_ISA
}  // namespace vharm
