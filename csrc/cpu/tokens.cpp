// SPDX-License-Identifier: Apache-2.0
// Pixels to packed tokens. Consecutive patches of one row of patches are walked together, pixel row
// by pixel row, so that the image is read in long runs and not a cache line at a time.
#include "vharm/tokens.hpp"

#include "cpu/patch_rows.hpp"
#include "cpu/tokens.hpp"
#include "runtime/parallel.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

struct Packing {
  TensorView image;
  MaskView mask;
  TokenView tokens;
  int patch;
  bool move, stream;
  Arrangement arrangement;
  int64_t row_samples, token_samples;  // of one row of a patch, of a patch
};

template <int kSize>
void move_row(const Packing& p, const char* from, char* to) {
  if (p.arrangement == Arrangement::packed) {
    copy_bytes(to, from, size_t(p.row_samples) * kSize, p.stream);
  } else if (p.arrangement == Arrangement::planar3) {
    const int64_t plane = p.image.sc * kSize;
    const char* planes[3] = {from, from + plane, from + 2 * plane};
    interleave3<kSize>(planes, p.patch, to, p.stream);
  } else {
    move_strided<kSize>(from, p.image.sw, p.image.sc, to, p.image.c, 1, p.patch, p.image.c);
  }
}

void scale_by(const float* mask, int n, float* values) {
  if (mask == nullptr) return;
  for (int i = 0; i < n; i += kWidth) {
    // A zero of the mask lets nothing through, not even NaN.
    const vf m = load(mask + i);
    store(values + i, select(less(vf(0.0f), m), m * load(values + i), vf(0.0f)));
  }
}

// One row through float, in spans.
void convert_row(const Packing& p, int64_t n, int64_t y, int64_t x, char* to) {
  const int64_t at_row = offset_of(p.image, n, y, x);
  const bool masked = p.mask.data != nullptr;
  const int size = sample_size(p.tokens.dtype);
  if (p.arrangement == Arrangement::packed && !masked) {
    alignas(64) float values[kSpan];
    for (int64_t i = 0; i < p.row_samples; i += kSpan) {
      const int count = static_cast<int>(p.row_samples - i < kSpan ? p.row_samples - i : kSpan);
      load_samples(at(p.image.data, p.image.dtype, at_row + i), p.image.dtype, 1, count, values);
      store_samples(values, p.tokens.dtype, to + i * size, 1, count);
    }
    return;
  }
  alignas(64) float values[3][kSpan], m[kSpan], woven[3 * kSpan];
  for (int i = 0; i < p.patch; i += kSpan) {
    const int count = p.patch - i < kSpan ? p.patch - i : kSpan;
    if (masked) load_mask(p.mask, n * p.mask.sn + y * p.mask.sh + (x + i) * p.mask.sw, count, m);
    const bool three = p.image.c == 3;
    for (int64_t c = 0; c < p.image.c; ++c) {
      float* plane = values[three ? c : 0];
      load_samples(at(p.image.data, p.image.dtype, at_row + i * p.image.sw + c * p.image.sc),
                   p.image.dtype, p.image.sw, count, plane);
      scale_by(masked ? m : nullptr, count, plane);
      if (three) continue;
      store_samples(plane, p.tokens.dtype, to + (i * p.image.c + c) * size, p.image.c, count);
    }
    if (!three) continue;
    const char* planes[3] = {(const char*)values[0], (const char*)values[1],
                             (const char*)values[2]};
    if (p.tokens.dtype == DType::f32) {
      interleave3<4>(planes, count, to + i * 12, false);
      continue;
    }
    interleave3<4>(planes, count, (char*)woven, false);
    for (int64_t k = 0; k < 3 * count; k += kSpan) {
      const int some = static_cast<int>(3 * count - k < kSpan ? 3 * count - k : kSpan);
      store_samples(woven + k, p.tokens.dtype, to + (3 * i + k) * size, 1, some);
    }
  }
}

template <int kSize>
void pack_run(const Packing& p, const PatchPlace& place, int64_t first, int64_t count) {
  const int size = sample_size(p.tokens.dtype);
  char* to = static_cast<char*>(p.tokens.data) + first * p.token_samples * size;
  for (int r = 0; r < p.patch; ++r, to += p.row_samples * size) {
    for (int64_t t = 0; t < count; ++t) {
      char* row = to + t * p.token_samples * size;
      const int64_t y = place.y + r, x = place.x + t * p.patch;
      if (p.move) {
        const auto* data = static_cast<const char*>(p.image.data);
        move_row<kSize>(p, data + offset_of(p.image, place.n, y, x) * kSize, row);
      } else {
        convert_row(p, place.n, y, x, row);
      }
    }
  }
}

template <int kSize>
void pack_tokens(const Packing& p, const int64_t* index, int64_t first, int64_t last) {
  const int64_t columns = p.image.w / p.patch;
  const int size = sample_size(p.tokens.dtype);
  while (first < last) {
    const PatchPlace place(p.image, p.patch, index[first]);
    int64_t next = first + 1;
    if (!place.exists) {
      memset(static_cast<char*>(p.tokens.data) + first * p.token_samples * size, 0,
             size_t(p.token_samples) * size);
      first = next;
      continue;
    }
    while (next < last && index[next] == index[next - 1] + 1 && index[next] % columns != 0) ++next;
    pack_run<kSize>(p, place, first, next - first);
    first = next;
  }
  finish_streams();
}

}  // namespace

Status foreground_patches(const TensorView& mask, int patch, uint8_t* out, int threads) {
  const int64_t columns = mask.w / patch, rows = mask.h / patch;
  parallel_for(mask.n * rows, threads, [&](int64_t task) {
    uint8_t* to = out + task * columns;
    memset(to, 0, size_t(columns));
    alignas(64) float values[kSpan];
    const int64_t n = task / rows, top = task % rows * patch;
    for (int64_t y = top; y < top + patch; ++y) {
      for (int64_t column = 0; column < columns; ++column) {
        for (int i = 0; i < patch && to[column] == 0; i += kSpan) {
          const int count = patch - i < kSpan ? patch - i : kSpan;
          const int64_t offset = offset_of(mask, n, y, column * patch + i);
          load_samples(at(mask.data, mask.dtype, offset), mask.dtype, mask.sw, count, values);
          bool found = false;
          for (int k = 0; k < count; k += kWidth) {
            found = found || any(less(vf(0.0f), load(values + k)));
          }
          to[column] = found;
        }
      }
    }
  });
  return Status::ok;
}

Status pack_patches(const TensorView& image, const int64_t* index, int64_t count,
                    const MaskView& mask, int patch, const TokenView& tokens, int threads) {
  Packing p{image, mask, tokens, patch, false, false, arrangement_of(image), 0, 0};
  p.move = mask.data == nullptr && image.dtype == tokens.dtype;
  p.row_samples = patch * image.c;
  p.token_samples = p.row_samples * patch;
  const int size = sample_size(tokens.dtype);
  p.stream = streams(tokens.data, count * p.token_samples * size, p.row_samples * size);
  const int64_t chunk = pieces_per_task(count, p.token_samples * size, threads);
  parallel_for((count + chunk - 1) / chunk, threads, [&](int64_t task) {
    const int64_t first = task * chunk;
    const int64_t last = first + chunk < count ? first + chunk : count;
    if (size == 1) {
      pack_tokens<1>(p, index, first, last);
    } else if (size == 2) {
      pack_tokens<2>(p, index, first, last);
    } else {
      pack_tokens<4>(p, index, first, last);
    }
  });
  return Status::ok;
}

Status patch_mask_gradient(const TensorView& grad, const TokenView& tokens, const int64_t* index,
                           int64_t count, const TensorView& image, const MaskView& mask, int patch,
                           const TensorView& grad_mask, int threads) {
  const int64_t token_rows = count * patch, c = grad.c;
  const int64_t chunk = 64;
  parallel_for((token_rows + chunk - 1) / chunk, threads, [&](int64_t task) {
    alignas(64) float g[kSpan], t[kSpan], v[kSpan], total[kSpan], m[kSpan];
    const int64_t end = (task + 1) * chunk < token_rows ? (task + 1) * chunk : token_rows;
    for (int64_t line = task * chunk; line < end; ++line) {
      const PatchPlace place(grad, patch, index[line / patch]);
      if (!place.exists) continue;
      const int64_t y = place.y + line % patch;
      for (int i = 0; i < patch; i += kSpan) {
        const int n = patch - i < kSpan ? patch - i : kSpan;
        for (int k = 0; k < padded(n); ++k) total[k] = 0;
        for (int64_t k = 0; k < c; ++k) {
          const auto load_one_of = [&](const TensorView& from, float* to) {
            const int64_t offset = offset_of(from, place.n, y, place.x + i) + k * from.sc;
            load_samples(at(from.data, from.dtype, offset), from.dtype, from.sw, n, to);
          };
          load_one_of(grad, g);
          load_one_of(image, v);
          load_samples(at(tokens.data, tokens.dtype, (line * patch + i) * c + k), tokens.dtype, c,
                       n, t);
          for (int l = 0; l < n; l += kWidth) {
            store(total + l, vfma(load(g + l), load(t + l) - load(v + l), load(total + l)));
          }
        }
        load_mask(mask, place.n * mask.sn + y * mask.sh + (place.x + i) * mask.sw, n, m);
        for (int l = 0; l < n; l += kWidth) {
          store(total + l, select(less(vf(0.0f), load(m + l)), load(total + l), vf(0.0f)));
        }
        const int64_t offset = offset_of(grad_mask, place.n, y, place.x + i);
        store_samples(total, grad_mask.dtype, at(grad_mask.data, grad_mask.dtype, offset),
                      grad_mask.sw, n);
      }
    }
  });
  return Status::ok;
}

}  // namespace VHARM_ISA
}  // namespace vharm
