// SPDX-License-Identifier: Apache-2.0
// Squared differences of neighbouring pixels. Blocks of rows write their own sums in double, added
// in block order, so no result depends on the number of threads.
#include <stdlib.h>

#include "cpu/pixels.hpp"
#include "runtime/parallel.hpp"
#include "vharm/statistics.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

constexpr int64_t kBlockRows = 32;
constexpr int64_t kColumns = kSpan - 32;  // leaves room for a neighbour on either side

VHARM_HD int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

VHARM_HD int64_t offset_of(const ImageView& v, int64_t n, int64_t y, int64_t x) {
  return n * v.sn + y * v.sh + x * v.sw;
}

VHARM_HD const float* plane(const Span& v, int c) { return c == 0 ? v.r : (c == 1 ? v.g : v.b); }

// sum over i < count of (a[i] - b[i])^2
double squares(const float* a, const float* b, int count) {
  vf sums(0.0f);
  int i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    const vf d = load(a + i) - load(b + i);
    sums = vfma(d, d, sums);
  }
  double total = sum(sums);
  for (; i < count; ++i) total += (a[i] - b[i]) * (a[i] - b[i]);
  return total;
}

double block_sum(const ImageView& image, int64_t n, int64_t first, int64_t last) {
  Span spans[2];
  double total = 0;
  for (int64_t x = 0; x < image.w; x += kColumns) {
    const int own = static_cast<int>(smaller(kColumns, image.w - x));
    const int with_next = static_cast<int>(smaller(own + 1, image.w - x));
    // One row more than the block's own, for the differences downwards.
    for (int64_t y = first; y < smaller(last + 1, image.h); ++y) {
      Span &now = spans[y & 1], &above = spans[(y + 1) & 1];
      load_span(image, offset_of(image, n, y, x), with_next, now);
      for (int c = 0; c < 3; ++c) {
        if (y < last) total += squares(plane(now, c) + 1, plane(now, c), with_next - 1);
        if (y > first) total += squares(plane(now, c), plane(above, c), own);
      }
    }
  }
  return total;
}

// The gradient of half the sum of squares, times `factor`.
void gradient_row(const float* above, const float* now, const float* below, int begin, int end,
                  int loaded, float factor, float* out) {
  for (int i = begin; i < end; ++i) {
    float g = 0;
    if (i > 0) g += now[i] - now[i - 1];
    if (i + 1 < loaded) g -= now[i + 1] - now[i];
    out[i - begin] = g;
  }
  if (above != nullptr) {
    for (int i = begin; i < end; ++i) out[i - begin] += now[i] - above[i];
  }
  if (below != nullptr) {
    for (int i = begin; i < end; ++i) out[i - begin] -= below[i] - now[i];
  }
  for (int i = 0; i < end - begin; ++i) out[i] *= factor;
}

void block_gradient(const ImageView& image, const ImageView& grad, int64_t n, int64_t first,
                    int64_t last, float factor) {
  Span spans[3], out;
  float* planes[3] = {out.r, out.g, out.b};
  for (int64_t x = 0; x < image.w; x += kColumns) {
    const int64_t from = x > 0 ? x - 1 : 0;
    const int begin = static_cast<int>(x - from);
    const int end = begin + static_cast<int>(smaller(kColumns, image.w - x));
    const int loaded = static_cast<int>(smaller(end + 1, image.w - from));
    const auto load_row = [&](int64_t y) {
      if (y >= 0 && y < image.h) {
        load_span(image, offset_of(image, n, y, from), loaded, spans[(y + 3) % 3]);
      }
    };
    load_row(first - 1);
    load_row(first);
    for (int64_t y = first; y < last; ++y) {
      load_row(y + 1);
      const Span &above = spans[(y + 2) % 3], &now = spans[y % 3], &below = spans[(y + 1) % 3];
      for (int c = 0; c < 3; ++c) {
        gradient_row(y > 0 ? plane(above, c) : nullptr, plane(now, c),
                     y + 1 < image.h ? plane(below, c) : nullptr, begin, end, loaded, factor,
                     planes[c]);
      }
      store_span(out, grad, offset_of(grad, n, y, x), end - begin);
    }
  }
}

}  // namespace

Status patch_balance(const ImageView& image, double factor, float* out, int threads) {
  const int64_t blocks = (image.h + kBlockRows - 1) / kBlockRows, tasks = image.n * blocks;
  double* partials = static_cast<double*>(calloc(size_t(tasks ? tasks : 1), sizeof(double)));
  if (partials == nullptr) return Status::out_of_memory;
  parallel_for(tasks, threads, [&](int64_t task) {
    const int64_t first = task % blocks * kBlockRows;
    partials[task] = block_sum(image, task / blocks, first, smaller(first + kBlockRows, image.h));
  });
  for (int64_t n = 0; n < image.n; ++n) {
    double total = 0;
    for (int64_t i = 0; i < blocks; ++i) total += partials[n * blocks + i];
    out[n] = static_cast<float>(total * factor);
  }
  free(partials);
  return Status::ok;
}

Status patch_balance_backward(const float* grad, const ImageView& image, double factor,
                              const ImageView& grad_image, int threads) {
  const int64_t blocks = (image.h + kBlockRows - 1) / kBlockRows;
  parallel_for(image.n * blocks, threads, [&](int64_t task) {
    const int64_t n = task / blocks, first = task % blocks * kBlockRows;
    block_gradient(image, grad_image, n, first, smaller(first + kBlockRows, image.h),
                   static_cast<float>(2 * factor * grad[n]));
  });
  return Status::ok;
}

}  // namespace VHARM_ISA
}  // namespace vharm
