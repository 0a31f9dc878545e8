// SPDX-License-Identifier: Apache-2.0
// Warped images, the temporal loss and the consistency of flows.
#include "cpu/warp.hpp"

#include <stdlib.h>

namespace vharm {
namespace VHARM_ISA {
namespace {

// Calls body(n, y) for every row of a batch, a few rows to a task.
template <class Body>
void each_row(const TensorView& v, int threads, const Body& body) {
  const int64_t tasks_per_image = (v.h + kRowsPerTask - 1) / kRowsPerTask;
  parallel_for(v.n * tasks_per_image, threads, [&](int64_t task) {
    const int64_t n = task / tasks_per_image, first = task % tasks_per_image * kRowsPerTask;
    const int64_t last = first + kRowsPerTask < v.h ? first + kRowsPerTask : v.h;
    for (int64_t y = first; y < last; ++y) body(n, y);
  });
}

void store_flags(const float* values, const TensorView& to, int64_t n, int64_t y, int64_t x,
                 int count) {
  store_plane(values, at(to.data, to.dtype, row_of(to, n, y, x)), to.dtype, to.sw, count, 1.0f,
              0.0f, 1.0f);
}

// Whether an output is too large to be still in the cache when it is read, and each vector of it
// stands alone in a line.
bool streams(const TensorView& out) {
  constexpr int64_t kStreamBytes = 16 << 20, kLine = 64;
  if (out.dtype != DType::f32 || interleaved(out) ||
      out.n * out.c * out.h * out.w * 4 < kStreamBytes) {
    return false;
  }
  const int64_t steps = out.sn | out.sc | out.sh;
  return reinterpret_cast<uintptr_t>(out.data) % kLine == 0 && steps * 4 % kLine == 0;
}

template <class T>
void warp_run(const TensorView& image, const TensorView& out, int64_t n, int64_t y, int64_t x,
              const Route& r, const Spread& places, bool stream, float* buffer) {
  each_group(image, [&](const Group& g) {
    // float32 goes straight to its place.
    float* to = static_cast<float*>(out.data) + row_of(out, n, y, x) + g.first * out.sc;
    if (out.dtype == DType::f32 && !interleaved(out)) {
      const T* p = static_cast<const T*>(image.data) + n * image.sn + g.first * image.sc;
      sample_planes(r, p, image.sc, image.sh, g.planes, true, to, out.sc, stream);
    } else if (out.dtype == DType::f32 && out.sw == g.count) {
      sample_group<T>(r, places, image, n, g, to);
    } else {
      sample_group<T>(r, places, image, n, g, buffer);
      store_group(buffer, out, n, y, x, r.count, g);
    }
  });
}

}  // namespace

Status flow_warp(const TensorView& image, const TensorView& flow, bool border,
                 const TensorView& out, const TensorView& valid, int threads) {
  if (!known_layout(image) || !known_layout(out) || too_large(image) ||
      interleaved(image) != interleaved(out) || image.dtype != out.dtype) {
    return Status::unsupported;
  }
  const int length = run_length(image);
  const bool stream = streams(out);
  with_samples(image.dtype, [&](auto tag) {
    using T = typename Pointee<decltype(tag)>::type;
    const Spread places = spread_of(image);
    each_row(flow, threads, [&](int64_t n, int64_t y) {
      Route r;
      alignas(64) float buffer[kPacked + kMaxSpread * kWidth];
      each_run(flow.w, length, [&](int64_t x, int count) {
        route_span(flow, n, y, x, count, border, r);
        if (valid.data != nullptr) store_flags(r.inside, valid, n, y, x, count);
        warp_run<T>(image, out, n, y, x, r, places, stream, buffer);
      });
      if (stream) finish_streams();
    });
  });
  return Status::ok;
}

// ---- temporal loss ------------------------------------------------------------------------------

namespace {

// Sum over a run of w^2 d^2 for a group of `channels`; where w is 0 nothing counts, NaN included.
double squares(const float* w, const float* now, const float* before, int count, int channels) {
  double total = 0;
  if (channels == 1) {
    vf sums(0.0f);
    for (int i = 0; i < count; i += kWidth) {
      const vf k = load(w + i), d = k * (load(now + i) - load(before + i));
      sums = sums + select(less(vf(0.0f), k), d * d, vf(0.0f));
    }
    return sum(sums);
  }
  for (int i = 0; i < count; ++i) {
    if (!(w[i] > 0)) continue;
    float pixel = 0;
    for (int c = 0; c < channels; ++c) {
      const float d = now[i * channels + c] - before[i * channels + c];
      pixel += d * d;
    }
    total += double(pixel) * w[i] * w[i];
  }
  return total;
}

struct RowSums {
  double squares, weight;
};

template <class T>
RowSums loss_row(const TensorView& current, const TensorView& previous, const TensorView& flow,
                 const MaskView& mask, const MaskView& valid, int64_t n, int64_t y, int length,
                 const Spread& places) {
  Route r;
  alignas(64) float w[kSpan];
  alignas(64) float now[kPacked + kMaxSpread * kWidth], before[kPacked + kMaxSpread * kWidth];
  RowSums sums{0, 0};
  each_run(flow.w, length, [&](int64_t x, int count) {
    if (!masked(mask, n, y, x, count)) return;
    route_span(flow, n, y, x, count, true, r);
    if (!load_weight(mask, valid, n, y, x, r, w)) return;
    vf total(0.0f);
    for (int i = 0; i < count; i += kWidth) total = total + load(w + i);
    sums.weight += sum(total);
    each_group(current, [&](const Group& g) {
      load_group(current, n, y, x, count, g, now);
      sample_group<T>(r, places, previous, n, g, before);
      for (int k = 0; k < g.planes; ++k) {
        sums.squares += squares(w, now + k * kSpan, before + k * kSpan, count, g.samples);
      }
    });
  });
  return sums;
}

}  // namespace

Status temporal_loss(const TensorView& current, const TensorView& previous, const TensorView& flow,
                     const MaskView& mask, const MaskView& valid, float* loss, float* weight,
                     int threads) {
  if (!known_layout(current) || !known_layout(previous) || too_large(current) ||
      interleaved(current) != interleaved(previous) || current.dtype != previous.dtype) {
    return Status::unsupported;
  }
  const size_t rows = size_t(current.n * current.h);
  auto* sums = static_cast<RowSums*>(malloc((rows ? rows : 1) * sizeof(RowSums)));
  if (sums == nullptr) return Status::out_of_memory;
  with_samples(current.dtype, [&](auto tag) {
    using T = typename Pointee<decltype(tag)>::type;
    const Spread places = spread_of(current);
    each_row(flow, threads, [&](int64_t n, int64_t y) {
      sums[n * flow.h + y] =
          loss_row<T>(current, previous, flow, mask, valid, n, y, run_length(current), places);
    });
  });
  for (int64_t n = 0; n < current.n; ++n) {
    RowSums total{0, 0};
    for (int64_t y = 0; y < current.h; ++y) {
      total.squares += sums[n * current.h + y].squares;
      total.weight += sums[n * current.h + y].weight;
    }
    weight[n] = float(total.weight);
    const bool some = total.weight > 0;
    loss[n] = some ? float(total.squares / (total.weight * double(current.c))) : 0.0f;
  }
  free(sums);
  return Status::ok;
}

// ---- consistency --------------------------------------------------------------------------------

namespace {

void agree(const float* fx, const float* fy, const float* bx, const float* by, const Route& r,
           float alpha, float beta, float* out) {
  for (int i = 0; i < r.count; ++i) {
    const bool good = flows_agree(fx[i], fy[i], bx[i], by[i], alpha, beta);
    out[i] = good && r.inside[i] > 0 ? 1.0f : 0.0f;
  }
}

}  // namespace

Status flow_consistency(const TensorView& forward, const TensorView& backward, float alpha,
                        float beta, const TensorView& out, int threads) {
  if (!known_layout(backward) || too_large(forward) || forward.c != 2 || backward.c != 2 ||
      forward.dtype != DType::f32 || backward.dtype != DType::f32) {
    return Status::unsupported;
  }
  const Spread places(2);
  const auto* planes = static_cast<const float*>(backward.data);
  each_row(forward, threads, [&](int64_t n, int64_t y) {
    Route r;
    alignas(64) float fx[kSpan], fy[kSpan], bx[kSpan], by[kSpan], pairs[2 * kSpan + kWidth];
    each_run(forward.w, kSpan, [&](int64_t x, int count) {
      load_flow(forward, n, y, x, count, fx, fy);
      make_route(fx, fy, y, x, count, forward.h, forward.w, true, r);
      const float* p = planes + n * backward.sn;
      if (interleaved(backward)) {
        sample_pixels(r, places, p, backward.sh, backward.sw, 2, pairs);
        for (int i = 0; i < count; ++i) {
          bx[i] = pairs[2 * i];
          by[i] = pairs[2 * i + 1];
        }
      } else {
        sample_planes(r, p, backward.sc, backward.sh, 1, false, bx, 0);
        sample_planes(r, p + backward.sc, backward.sc, backward.sh, 1, false, by, 0);
      }
      agree(fx, fy, bx, by, r, alpha, beta, bx);
      store_flags(bx, out, n, y, x, count);
    });
  });
  return Status::ok;
}

}  // namespace VHARM_ISA
}  // namespace vharm
