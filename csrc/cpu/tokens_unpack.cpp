// SPDX-License-Identifier: Apache-2.0
// Packed tokens to pixels: one pass over the output, which takes each run of a row from the image
// or from the tokens, so that nothing is written twice.
#include "cpu/tokens.hpp"
#include "runtime/parallel.hpp"
#include "vharm/tokens.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

struct Unpacking {
  TokenView tokens;
  TensorView image, out;
  MaskView mask;
  int patch;
  bool move, stream;
  Arrangement image_is, out_is;
  int64_t row_samples, token_samples;
};

// `pixels` pixels of the image (or zeros) as they are.
template <int kSize>
void keep_run(const Unpacking& u, int64_t n, int64_t y, int64_t x, int pixels) {
  if (u.image.data == u.out.data) return;  // in place
  char* to = static_cast<char*>(u.out.data) + offset_of(u.out, n, y, x) * kSize;
  const bool blank = u.image.data == nullptr;
  const char* from =
      blank ? nullptr
            : static_cast<const char*>(u.image.data) + offset_of(u.image, n, y, x) * kSize;
  const bool same = blank || u.image_is == u.out_is;
  if (u.out_is == Arrangement::strided || !same) {
    const uint32_t zero = 0;
    move_strided<kSize>(blank ? reinterpret_cast<const char*>(&zero) : from, blank ? 0 : u.image.sw,
                        blank ? 0 : u.image.sc, to, u.out.sw, u.out.sc, pixels, u.out.c);
    return;
  }
  const bool packed = u.out_is == Arrangement::packed;
  const size_t bytes = size_t(pixels) * kSize * (packed ? u.out.c : 1);
  for (int c = 0; c < (packed ? 1 : 3); ++c) {
    char* q = to + c * u.out.sc * kSize;
    if (blank) {
      memset(q, 0, bytes);
    } else {
      copy_bytes(q, from + c * u.image.sc * kSize, bytes, u.stream);
    }
  }
}

// One row of a token as it is.
template <int kSize>
void put_row(const Unpacking& u, const char* from, int64_t n, int64_t y, int64_t x) {
  char* to = static_cast<char*>(u.out.data) + offset_of(u.out, n, y, x) * kSize;
  if (u.out_is == Arrangement::packed) {
    copy_bytes(to, from, size_t(u.row_samples) * kSize, u.stream);
  } else if (u.out_is == Arrangement::planar3) {
    const int64_t plane = u.out.sc * kSize;
    char* planes[3] = {to, to + plane, to + 2 * plane};
    deinterleave3<kSize>(from, u.patch, planes, u.stream);
  } else {
    move_strided<kSize>(from, u.out.c, 1, to, u.out.sw, u.out.sc, u.patch, u.out.c);
  }
}

// n pixels of a token's row, channel by channel into `planes`; three at once where there are three.
void load_token(const Unpacking& u, const char* row, int i, int n, int64_t c, float* values,
                float* woven) {
  const DType dtype = u.tokens.dtype;
  if (u.out.c != 3) {
    load_samples(at(row, dtype, i * u.out.c + c), dtype, u.out.c, n, values);
    return;
  }
  for (int k = 0; k < 3 * n; k += kSpan) {
    const int some = 3 * n - k < kSpan ? 3 * n - k : kSpan;
    load_samples(at(row, dtype, 3 * i + k), dtype, 1, some, woven + k);
  }
  char* planes[3] = {(char*)values, (char*)(values + kSpan), (char*)(values + 2 * kSpan)};
  deinterleave3<4>((const char*)woven, n, planes, false);
}

// One row of a patch through float: mask * token + (1 - mask) * image.
template <int kSize>
void blend_row(const Unpacking& u, const char* token_row, int64_t n, int64_t y, int64_t x) {
  alignas(64) float values[3 * kSpan], under[kSpan], m[kSpan], woven[3 * kSpan + 64];
  for (int i = 0; i < u.patch; i += kSpan) {
    const int count = u.patch - i < kSpan ? u.patch - i : kSpan;
    const int64_t at_mask = n * u.mask.sn + y * u.mask.sh + (x + i) * u.mask.sw;
    const MaskSpan touched = load_mask(u.mask, at_mask, count, m);
    if (touched.begin == touched.end) {
      keep_run<kSize>(u, n, y, x + i, count);
      continue;
    }
    for (int64_t c = 0; c < u.out.c; ++c) {
      float* plane = values + (u.out.c == 3 ? c * kSpan : 0);
      if (token_row == nullptr) {
        for (int k = 0; k < padded(count); ++k) plane[k] = 0;
      } else if (u.out.c != 3 || c == 0) {
        load_token(u, token_row, i, count, c, plane, woven);
      }
      const TensorView& from = u.image;
      const int64_t offset = offset_of(from, n, y, x + i) + c * from.sc;
      load_samples(at(from.data, from.dtype, offset), from.dtype, from.sw, count, under);
      for (int k = 0; k < count; k += kWidth) {
        const vf a = load(m + k), v = load(under + k), one(1.0f);
        const vf mixed = vfma(a, load(plane + k), (one - a) * v);
        store(plane + k, select(less(vf(0.0f), a), mixed, v));
      }
      const int64_t to = offset_of(u.out, n, y, x + i) + c * u.out.sc;
      store_samples(plane, u.out.dtype, at(u.out.data, u.out.dtype, to), u.out.sw, count);
    }
  }
}

// One row of a token of another dtype, without a mask.
void convert_row(const Unpacking& u, const char* row, int64_t n, int64_t y, int64_t x) {
  alignas(64) float values[3 * kSpan], woven[3 * kSpan + 64];
  if (u.out_is == Arrangement::packed) {
    char* to = at(u.out.data, u.out.dtype, offset_of(u.out, n, y, x));
    for (int64_t i = 0; i < u.row_samples; i += kSpan) {
      const int count = static_cast<int>(u.row_samples - i < kSpan ? u.row_samples - i : kSpan);
      load_samples(at(row, u.tokens.dtype, i), u.tokens.dtype, 1, count, values);
      store_samples(values, u.out.dtype, to + i * sample_size(u.out.dtype), 1, count);
    }
    return;
  }
  for (int i = 0; i < u.patch; i += kSpan) {
    const int count = u.patch - i < kSpan ? u.patch - i : kSpan;
    for (int64_t c = 0; c < u.out.c; ++c) {
      float* plane = values + (u.out.c == 3 ? c * kSpan : 0);
      if (u.out.c != 3 || c == 0) load_token(u, row, i, count, c, plane, woven);
      const int64_t to = offset_of(u.out, n, y, x + i) + c * u.out.sc;
      store_samples(plane, u.out.dtype, at(u.out.data, u.out.dtype, to), u.out.sw, count);
    }
  }
}

template <int kSize>
void kept_patch_row(const Unpacking& u, int64_t slot, int r, int64_t n, int64_t y, int64_t x) {
  const char* row = nullptr;
  if (u.tokens.data != nullptr) {
    row = at(static_cast<const void*>(u.tokens.data), u.tokens.dtype,
             slot * u.token_samples + r * u.row_samples);
  }
  if (u.mask.data != nullptr) {
    blend_row<kSize>(u, row, n, y, x);
  } else if (row == nullptr) {
    Unpacking blank = u;
    blank.image.data = nullptr;
    keep_run<kSize>(blank, n, y, x, u.patch);
  } else if (u.move) {
    put_row<kSize>(u, row, n, y, x);
  } else {
    convert_row(u, row, n, y, x);
  }
}

// One row of patches.
template <int kSize>
void unpack_row(const Unpacking& u, const int64_t* slots, int64_t n, int64_t top) {
  const int64_t columns = u.out.w / u.patch;
  for (int r = 0; r < u.patch; ++r) {
    for (int64_t column = 0; column < columns;) {
      if (slots[column] >= 0) {
        kept_patch_row<kSize>(u, slots[column], r, n, top + r, column * u.patch);
        ++column;
        continue;
      }
      int64_t next = column + 1;
      while (next < columns && slots[next] < 0 && (next - column) * u.patch < (1 << 20)) ++next;
      keep_run<kSize>(u, n, top + r, column * u.patch, static_cast<int>((next - column) * u.patch));
      column = next;
    }
  }
  finish_streams();
}

}  // namespace

Status unpack_patches(const TokenView& tokens, const int64_t* slots, const TensorView& image,
                      const MaskView& mask, int patch, const TensorView& out, int threads) {
  if (mask.data != nullptr && image.data == nullptr) return Status::unsupported;
  Unpacking u{
      tokens, image, out, mask, patch, false, false, Arrangement::strided, arrangement_of(out),
      0,      0};
  if (image.data != nullptr) u.image_is = arrangement_of(image);
  u.move = tokens.dtype == out.dtype;
  u.row_samples = patch * out.c;
  u.token_samples = u.row_samples * patch;
  const int size = sample_size(out.dtype);
  const bool packed = u.out_is == Arrangement::packed;
  const int64_t run = patch * size * (packed ? out.c : 1);
  u.stream = u.out_is != Arrangement::strided && out.sh * size % 64 == 0 &&
             (packed || out.sc * size % 64 == 0) && (out.n == 1 || out.sn * size % 64 == 0) &&
             streams(out.data, out.n * out.c * out.h * out.w * size, run);
  const int64_t rows = out.h / patch, columns = out.w / patch, total = out.n * rows;
  const int64_t chunk = pieces_per_task(total, run * columns * patch, threads);
  parallel_for((total + chunk - 1) / chunk, threads, [&](int64_t task) {
    for (int64_t row = task * chunk; row < total && row < (task + 1) * chunk; ++row) {
      const int64_t n = row / rows, top = row % rows * patch;
      const int64_t* row_slots = slots + row * columns;
      if (size == 1) {
        unpack_row<1>(u, row_slots, n, top);
      } else if (size == 2) {
        unpack_row<2>(u, row_slots, n, top);
      } else {
        unpack_row<4>(u, row_slots, n, top);
      }
    }
  });
  return Status::ok;
}

}  // namespace VHARM_ISA
}  // namespace vharm
