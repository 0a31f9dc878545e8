// SPDX-License-Identifier: Apache-2.0
// Masked moments and histograms. Each block of spans writes its own sums in double; they are added
// in block order, so no result depends on the number of threads.
#include "vharm/statistics.hpp"

#include <stdlib.h>

#include "cpu/apply.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

// weight; r g b; rr rg rb gg gb bb
constexpr int kSums = 10;
constexpr int kLanes = 8;  // independent sums, so that the loop over pixels has no long chain
constexpr double kLeastWeight = 1e-4;  // what a histogram is divided by at least

int64_t offset_of(const ImageView& v, int64_t n, int64_t y, int64_t x) {
  return n * v.sn + y * v.sh + x * v.sw;
}
int64_t offset_of(const MaskView& v, int64_t n, int64_t y, int64_t x) {
  return n * v.sn + y * v.sh + x * v.sw;
}

// `count` is a multiple of kLanes; padding has mask 0.
void add_moments(const Span& v, const float* mask, int count, double* sums) {
  double lanes[kSums][kLanes] = {};
  for (int i = 0; i < count; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      const double m = mask[i + l], r = v.r[i + l], g = v.g[i + l], b = v.b[i + l];
      const double mr = m * r, mg = m * g, mb = m * b;
      lanes[0][l] += m;
      lanes[1][l] += mr;
      lanes[2][l] += mg;
      lanes[3][l] += mb;
      lanes[4][l] += mr * r;
      lanes[5][l] += mr * g;
      lanes[6][l] += mr * b;
      lanes[7][l] += mg * g;
      lanes[8][l] += mg * b;
      lanes[9][l] += mb * b;
    }
  }
  for (int s = 0; s < kSums; ++s) {
    for (int l = 0; l < kLanes; ++l) sums[s] += lanes[s][l];
  }
}

// Infinities and NaN must not get through a zero of the mask.
void drop_unmasked(Span& v, const float* mask, int count) {
  float* planes[3] = {v.r, v.g, v.b};
  for (float* p : planes) {
    for (int i = 0; i < count; i += kWidth) {
      store(p + i, select(less(vf(0.0f), load(mask + i)), load(p + i), vf(0.0f)));
    }
  }
}

// Calls body(span, mask, count) for those spans of a block that the mask touches.
template <class Body>
void each_touched(const ImageView& image, const MaskView& mask, const Blocks& blocks, int64_t task,
                  const Body& body) {
  const int64_t n = task / blocks.blocks_per_image;
  Span v;
  alignas(64) float m[kSpan];
  blocks.each(task % blocks.blocks_per_image, [&](int64_t y, int64_t x, int count) {
    const MaskSpan touched = load_mask(mask, offset_of(mask, n, y, x), count, m);
    if (touched.begin == touched.end) return;
    load_span(image, offset_of(image, n, y, x), count, v);
    if (!touched.full || touched.begin > 0 || touched.end < count) {
      drop_unmasked(v, m, padded(count));
    }
    body(v, m, count);
  });
}

// Adds to sums[k], for kLanes ramps from `first` on, what has climbed ramp k: m clamp(p - k, 0, 1),
// p the values' places. By so much m min(p - first, l) grows from one level l to the next, where p
// is beyond `first`. A span is short and kLanes levels are few: these sums may be in float.
void add_ramps(const float* places, const float* mask, int count, int first, int ramps,
               double* sums) {
  vf lanes[kLanes], caps[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    lanes[l] = vf(0.0f);
    caps[l] = vf(static_cast<float>(l + 1));
  }
  const vf begin(static_cast<float>(first)), zero(0.0f);
  for (int i = 0; i < count; i += kWidth) {
    // A NaN stays: the value stands second.
    const vf p = vmax(zero, load(places + i) - begin), m = load(mask + i);
    for (int l = 0; l < kLanes; ++l) lanes[l] = vfma(m, vmin(caps[l], p), lanes[l]);
  }
  double below = 0;
  for (int l = 0; l < kLanes && first + l < ramps; ++l) {
    const double capped = sum(lanes[l]);
    sums[first + l] += capped - below;
    below = capped;
  }
}

// sums: the weight, then each channel's bins - 1 ramps.
void add_histogram(Span& v, const float* mask, int count, int bins, double* sums) {
  vf weight(0.0f);
  for (int i = 0; i < count; i += kWidth) weight = weight + load(mask + i);
  sums[0] += sum(weight);
  float* planes[3] = {v.r, v.g, v.b};
  const int ramps = bins - 1;
  const vf scale(static_cast<float>(ramps)), zero(0.0f), one(1.0f);
  for (int c = 0; c < 3; ++c) {
    float* p = planes[c];
    for (int i = 0; i < count; i += kWidth) {
      store(p + i, vmin(one, vmax(zero, load(p + i))) * scale);
    }
    for (int k = 0; k < ramps; k += kLanes) {
      add_ramps(p, mask, count, k, ramps, sums + 1 + c * ramps);
    }
  }
}

// What has climbed the ramp up to a bin, and not the next, is in it.
void finish_histogram(const double* sums, int bins, float* out) {
  const double weight = sums[0], divisor = weight < kLeastWeight ? kLeastWeight : weight;
  const int ramps = bins - 1;
  for (int c = 0; c < 3; ++c) {
    const double* climbed = sums + 1 + c * ramps;
    for (int k = 0; k < bins; ++k) {
      const double up_to = k > 0 ? climbed[k - 1] : weight, beyond = k < ramps ? climbed[k] : 0;
      const double share = (up_to - beyond) / divisor;
      // Rounding must not make a share negative; a NaN stays.
      out[c * bins + k] = share < 0 ? 0 : static_cast<float>(share);
    }
  }
}

void finish(const double* sums, float* mean, float* covariance, float* weight) {
  *weight = static_cast<float>(sums[0]);
  double mu[3] = {0, 0, 0};
  const bool some = sums[0] > 0;
  for (int c = 0; c < 3; ++c) {
    mu[c] = some ? sums[1 + c] / sums[0] : 0;
    mean[c] = static_cast<float>(mu[c]);
  }
  int s = 4;
  for (int i = 0; i < 3; ++i) {
    for (int j = i; j < 3; ++j, ++s) {
      double c = some ? sums[s] / sums[0] - mu[i] * mu[j] : 0;
      // Rounding must not make a variance negative; a NaN stays.
      if (i == j && c < 0) c = 0;
      covariance[3 * i + j] = covariance[3 * j + i] = static_cast<float>(c);
    }
  }
}

}  // namespace

Status masked_moments(const ImageView& view, const MaskView& mask_view, float* mean,
                      float* covariance, float* weight, int threads) {
  ImageView image = view;
  const MaskView mask = mask_view;
  int64_t h = image.h, w = image.w;
  join_rows(h, w, joins(mask, w), image);
  const Blocks blocks(h, w);
  const int64_t tasks = image.n * blocks.blocks_per_image;
  double* partials =
      static_cast<double*>(calloc(size_t(tasks ? tasks : 1) * kSums, sizeof(double)));
  if (partials == nullptr) return Status::out_of_memory;
  parallel_for(tasks, threads, [&](int64_t task) {
    each_touched(image, mask, blocks, task, [&](Span& v, float* m, int count) {
      const int rounded = (count + kLanes - 1) / kLanes * kLanes;
      for (int i = padded(count); i < rounded; ++i) m[i] = v.r[i] = v.g[i] = v.b[i] = 0;
      add_moments(v, m, rounded, partials + task * kSums);
    });
  });
  for (int64_t n = 0; n < image.n; ++n) {
    double sums[kSums] = {};
    for (int64_t i = 0; i < blocks.blocks_per_image; ++i) {
      for (int s = 0; s < kSums; ++s)
        sums[s] += partials[(n * blocks.blocks_per_image + i) * kSums + s];
    }
    finish(sums, mean + 3 * n, covariance + 9 * n, weight + n);
  }
  free(partials);
  return Status::ok;
}

Status masked_histogram(const ImageView& view, const MaskView& mask_view, int bins, float* out,
                        int threads) {
  ImageView image = view;
  const MaskView mask = mask_view;
  int64_t h = image.h, w = image.w;
  join_rows(h, w, joins(mask, w), image);
  const Blocks blocks(h, w);
  const int64_t tasks = image.n * blocks.blocks_per_image;
  const int64_t size = 1 + 3 * (int64_t(bins) - 1);
  // One set of sums more than there are tasks: an image's total.
  double* partials = static_cast<double*>(calloc(size_t((tasks + 1) * size), sizeof(double)));
  if (partials == nullptr) return Status::out_of_memory;
  parallel_for(tasks, threads, [&](int64_t task) {
    each_touched(image, mask, blocks, task, [&](Span& v, float* m, int count) {
      add_histogram(v, m, count, bins, partials + task * size);
    });
  });
  double* total = partials + tasks * size;
  for (int64_t n = 0; n < image.n; ++n) {
    for (int64_t s = 0; s < size; ++s) {
      total[s] = 0;
      for (int64_t i = 0; i < blocks.blocks_per_image; ++i) {
        total[s] += partials[(n * blocks.blocks_per_image + i) * size + s];
      }
    }
    finish_histogram(total, bins, out + n * 3 * bins);
  }
  free(partials);
  return Status::ok;
}

// With W the weight, d = v - mean, G the covariance's gradient and g the mean's:
//   dv = m/W (g + (G + G^T) d),  dm = (g.d + d^T G d - <G, covariance>)/W + dW.
// The mean inside the covariance adds nothing, since the weighted sum of d is zero.
Status masked_moments_backward(const float* grad_mean, const float* grad_covariance,
                               const float* grad_weight, const ImageView& image,
                               const MaskView& mask, const float* mean, const float* covariance,
                               const float* weight, const ImageView& grad_image,
                               const MaskView& grad_mask, int threads) {
  const Blocks blocks(image.h, image.w);
  parallel_for(image.n * blocks.blocks_per_image, threads, [&](int64_t task) {
    const int64_t n = task / blocks.blocks_per_image;
    const float* G = grad_covariance + 9 * n;
    const float inverse = weight[n] > 0 ? 1.0f / weight[n] : 0.0f;
    float inner = 0;
    vf g[3], mu[3], both_ways[6];
    for (int c = 0; c < 3; ++c) {
      g[c] = vf(grad_mean[3 * n + c]);
      mu[c] = vf(mean[3 * n + c]);
    }
    for (int k = 0; k < 9; ++k) inner += G[k] * covariance[9 * n + k];
    int s = 0;
    for (int i = 0; i < 3; ++i) {
      for (int j = i; j < 3; ++j) both_ways[s++] = vf(G[3 * i + j] + G[3 * j + i]);
    }
    const vf scale(inverse), strength(mask.strength), constant(grad_weight[n] - inverse * inner);
    Span v;
    alignas(64) float m[kSpan], gm[kSpan];
    blocks.each(task % blocks.blocks_per_image, [&](int64_t y, int64_t x, int count) {
      load_mask(mask, offset_of(mask, n, y, x), count, m);
      load_span(image, offset_of(image, n, y, x), count, v);
      for (int i = 0; i < count; i += kWidth) {
        const vf r = load(v.r + i) - mu[0], gr = load(v.g + i) - mu[1], b = load(v.b + i) - mu[2];
        const vf hr = vfma(both_ways[0], r, vfma(both_ways[1], gr, both_ways[2] * b));
        const vf hg = vfma(both_ways[1], r, vfma(both_ways[3], gr, both_ways[4] * b));
        const vf hb = vfma(both_ways[2], r, vfma(both_ways[4], gr, both_ways[5] * b));
        const vf half(0.5f), zero(0.0f), mi = load(m + i);
        const vf line = vfma(g[0], r, vfma(g[1], gr, g[2] * b));
        const vf square = half * vfma(hr, r, vfma(hg, gr, hb * b));
        const vf slope = select(less(zero, scale), (line + square) * scale, zero);
        store(gm + i, strength * (slope + constant));
        const vf share = mi * scale;
        const auto inside = less(zero, share);
        store(v.r + i, select(inside, share * (g[0] + hr), zero));
        store(v.g + i, select(inside, share * (g[1] + hg), zero));
        store(v.b + i, select(inside, share * (g[2] + hb), zero));
      }
      if (grad_image.data != nullptr) {
        store_span(v, grad_image, offset_of(grad_image, n, y, x), count);
      }
      if (grad_mask.data != nullptr) {
        store_plane(gm, at(grad_mask.data, grad_mask.dtype, offset_of(grad_mask, n, y, x)),
                    grad_mask.dtype, grad_mask.sw, count, 1.0f, 0.0f, 1.0f);
      }
    });
  });
  return Status::ok;
}

}  // namespace VHARM_ISA
}  // namespace vharm
