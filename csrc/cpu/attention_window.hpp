// SPDX-License-Identifier: Apache-2.0
// Neighbourhoods over vectors of positions: kWidth neighbours along x share every instruction, and
// a window's columns are the same row loaded one sample further on.
#pragma once

#include "cpu/attention.hpp"

namespace vharm {
namespace VHARM_ISA {

// Small enough for the tiles of keys and values to stay in the second cache level, wide enough for
// their rims to add little.
constexpr int64_t kTileRows = 16, kTileColumns = 128;

struct Tiling {
  int64_t h, w, rows, columns, down, across;

  VHARM_HD Tiling(int64_t height, int64_t width)
      : h(height),
        w(width),
        rows(earlier(kTileRows, height)),
        columns(earlier(kTileColumns, width)),
        down((height + rows - 1) / rows),
        across((width + columns - 1) / columns) {}

  VHARM_HD int64_t count() const { return down * across; }
  VHARM_HD Area area(int64_t tile) const {
    const int64_t y = tile / across * rows, x = tile % across * columns;
    return {y, earlier(rows, h - y), x, earlier(columns, w - x)};
  }
  VHARM_HD int64_t stride() const { return padded(static_cast<int>(columns)); }
};

// A window clipped to an image, and the rim it adds to tiles.
struct Rim {
  Window y, x;

  VHARM_HD Rim(Window window, int64_t h, int64_t w)
      : y(clipped(window, h)), x(clipped(window, w)) {}

  VHARM_HD int64_t columns() const { return x.high - x.low + 1; }
  VHARM_HD int64_t rows() const { return y.high - y.low + 1; }
  VHARM_HD int64_t offsets() const { return rows() * columns(); }
  VHARM_HD int64_t tile_rows(const Tiling& t) const { return earlier(t.rows + rows() - 1, t.h); }
  // Room for whole vectors on both sides.
  VHARM_HD int64_t stride(const Tiling& t) const {
    return padded(static_cast<int>(t.columns + columns())) + 2 * kWidth;
  }
  VHARM_HD Area around(const Area& own, int64_t h) const {
    const int64_t first = later(0, own.y + y.low);
    const int64_t last = earlier(h, own.y + own.rows + y.high);
    return {first, last - first, own.x + x.low, own.width + columns() - 1};
  }
  // The part of a tile that has set positions itself and sees some around it.
  VHARM_HD Area needed(const Area& own, const Area& seen) const {
    const int64_t top = later(own.y, seen.y - y.high);
    const int64_t bottom = earlier(own.y + own.rows, seen.y + seen.rows - y.low);
    const int64_t left = later(own.x, seen.x - x.high);
    const int64_t right = earlier(own.x + own.width, seen.x + seen.width - x.low);
    return {top, right > left && seen.rows > 0 ? later(bottom - top, 0) : 0, left, right - left};
  }
};

// The rows of a window that lie inside the image, as rows of the tile `area`.
struct Rows {
  int64_t first, count;
};
VHARM_HD Rows rows_of(const Rim& rim, int64_t y, int64_t h, const Area& area) {
  const int64_t first = later(0, y + rim.y.low), last = earlier(h, y + rim.y.high + 1);
  return {first - area.y, last - first};
}

// A window's first sample of the first channel, and the steps from there.
struct Reach {
  const float* data;
  int64_t row_step, channel_step, rows, columns;
};
VHARM_HD Reach reach(const Packed& tile, int channel, int64_t x, const Rows& rows,
                     int64_t columns) {
  return {tile.at(rows.first, channel, x), tile.row_step(), tile.stride, rows.count, columns};
}

template <int R, int D>
VHARM_HD void dot_block(const float* own, int64_t own_step, const float* window, const Reach& to,
                        int channels, float* out) {
  vf sums[R][D];
  for (int r = 0; r < R; ++r) {
    for (int d = 0; d < D; ++d) sums[r][d] = vf(0.0f);
  }
  for (int c = 0; c < channels; ++c) {
    const vf a = load(own + c * own_step);
    for (int r = 0; r < R; ++r) {
      const float* row = window + c * to.channel_step + r * to.row_step;
      for (int d = 0; d < D; ++d) sums[r][d] = vfma(a, load(row + d), sums[r][d]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int d = 0; d < D; ++d) store(out + (r * to.columns + d) * kWidth, sums[r][d]);
  }
}

template <int R>
VHARM_HD void dot_rows(const float* own, int64_t own_step, const float* window, const Reach& to,
                       int channels, float* out) {
  int64_t d = 0;
  for (; d + 4 <= to.columns; d += 4) {
    dot_block<R, 4>(own, own_step, window + d, to, channels, out + d * kWidth);
  }
  const float* rest = window + d;
  float* end = out + d * kWidth;
  if (to.columns - d == 3) dot_block<R, 3>(own, own_step, rest, to, channels, end);
  if (to.columns - d == 2) dot_block<R, 2>(own, own_step, rest, to, channels, end);
  if (to.columns - d == 1) dot_block<R, 1>(own, own_step, rest, to, channels, end);
}

// out [rows * columns][kWidth]: the own position's channels times those of every window position.
inline void dot_window(const float* own, int64_t own_step, const Reach& to, int channels,
                       float* out) {
  int64_t r = 0;
  for (; r + 2 <= to.rows; r += 2) {
    dot_rows<2>(own, own_step, to.data + r * to.row_step, to, channels,
                out + r * to.columns * kWidth);
  }
  if (r < to.rows) {
    dot_rows<1>(own, own_step, to.data + r * to.row_step, to, channels,
                out + r * to.columns * kWidth);
  }
}

template <int M>
VHARM_HD void sum_block(const float* weights, const Reach& from, int channel, vf factor, float* out,
                        int64_t out_step) {
  vf sums[M];
  for (int m = 0; m < M; ++m) sums[m] = vf(0.0f);
  for (int64_t r = 0; r < from.rows; ++r) {
    const float* row = from.data + r * from.row_step + channel * from.channel_step;
    for (int64_t d = 0; d < from.columns; ++d, weights += kWidth) {
      const vf weight = load(weights);
      for (int m = 0; m < M; ++m) {
        sums[m] = vfma(weight, load(row + m * from.channel_step + d), sums[m]);
      }
    }
  }
  for (int m = 0; m < M; ++m) store(out + (channel + m) * out_step, sums[m] * factor);
}

// out channel by channel: the window's samples weighted, times factor.
inline void sum_window(const float* weights, const Reach& from, int channels, vf factor, float* out,
                       int64_t out_step) {
  int c = 0;
  for (; c + 8 <= channels; c += 8) sum_block<8>(weights, from, c, factor, out, out_step);
  if (c + 4 <= channels) {
    sum_block<4>(weights, from, c, factor, out, out_step);
    c += 4;
  }
  for (; c < channels; ++c) sum_block<1>(weights, from, c, factor, out, out_step);
}

// Calls body(samples of the one-channel tile, place in [offsets][kWidth]) over a window.
template <class Body>
VHARM_HD void each_offset(const Reach& tile, const Body& body) {
  int64_t place = 0;
  for (int64_t r = 0; r < tile.rows; ++r) {
    for (int64_t d = 0; d < tile.columns; ++d, place += kWidth) {
      body(r * tile.row_step + d, place);
    }
  }
}

// Whether any sample of the window is above zero.
VHARM_HD bool reaches_any(const Reach& tile) {
  vf most(0.0f);
  for (int64_t r = 0; r < tile.rows; ++r) {
    for (int64_t d = 0; d < tile.columns; ++d) {
      most = vmax(most, load(tile.data + r * tile.row_step + d));
    }
  }
  return any(less(vf(0.0f), most));
}

// One row of results; `set` is 1 where they are wanted, zeros go elsewhere.
inline void store_row(const Packed& row, const float* set, const TensorView& to, int64_t n,
                      int64_t y, int64_t x, int64_t width) {
  const bool plain = to.dtype == DType::f32 && to.sw == 1;
  for (int c = 0; c < row.channels; ++c) {
    float* values = row.at(0, c, 0);
    if (plain) {
      float* out = static_cast<float*>(to.data) + offset_of(to, n, c, y, x);
      int64_t i = 0;
      for (; i + kWidth <= width; i += kWidth) {
        store(out + i, select(less(vf(0.0f), load(set + i)), load(values + i), vf(0.0f)));
      }
      for (; i < width; ++i) out[i] = set[i] > 0 ? values[i] : 0.0f;
      continue;
    }
    for (int64_t i = 0; i < width; i += kWidth) {
      store(values + i, select(less(vf(0.0f), load(set + i)), load(values + i), vf(0.0f)));
    }
    store_plane(values, at(to.data, to.dtype, offset_of(to, n, c, y, x)), to.dtype, to.sw,
                static_cast<int>(width), 1.0f, 0.0f, 1.0f);
  }
}

// Zeros in a whole tile, plane by plane: rows that follow each other in memory.
inline void clear_tile(const TensorView& to, int64_t n, const Area& own) {
  const int64_t size = sample_size(to.dtype);
  for (int64_t c = 0; c < to.c; ++c) {
    for (int64_t r = 0; r < own.rows; ++r) {
      char* row = at(to.data, to.dtype, offset_of(to, n, c, own.y + r, own.x));
      if (to.sw == 1) {
        memset(row, 0, size_t(own.width * size));
      } else {
        for (int64_t x = 0; x < own.width; ++x) memset(row + x * to.sw * size, 0, size_t(size));
      }
    }
  }
}

inline void clear_row(const Packed& row) { clear_floats(row.data, 0, row.row_step()); }

// What of a tile is to be computed; the rest of the result's tiles is cleared.
inline Area work_in(const Rim& rim, const Area& own, const MaskView& own_mask,
                    const MaskView& around_mask, int64_t n, const Tiling& tiling, float* row) {
  const Area wanted = bounds(own_mask, n, tiling.w, own, row);
  if (wanted.rows == 0) return wanted;
  const Area around = rim.around(wanted, tiling.h);
  return rim.needed(wanted, bounds(around_mask, n, tiling.w, around, row));
}
VHARM_HD bool differ(const Area& a, const Area& b) {
  return a.y != b.y || a.rows != b.rows || a.x != b.x || a.width != b.width;
}

}  // namespace VHARM_ISA
}  // namespace vharm
