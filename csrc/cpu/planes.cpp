// SPDX-License-Identifier: Apache-2.0
// Sums over single planes: areas, for shrinking them, and points under a mask.
#include <stdlib.h>

#include "cpu/yuv.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

// Which source columns each target column averages, and by how much: `taps` of them from `first`
// on, those it does not cover with weight 0.
struct Columns {
  int taps = 0;
  int64_t* first = nullptr;
  float* weights = nullptr;

  bool make(int64_t from, int64_t to) {
    const double step = double(from) / to;
    // A target column may begin and end within source columns; whole vectors are read.
    taps = (static_cast<int>(step) + 2 + kWidth - 1) / kWidth * kWidth;
    const size_t bytes = (size_t(to) * taps * 4 + 63) / 64 * 64;
    first = static_cast<int64_t*>(malloc(size_t(to) * sizeof(int64_t)));
    weights = static_cast<float*>(aligned_alloc(64, bytes));
    if (first == nullptr || weights == nullptr) return false;
    memset(weights, 0, bytes);
    for (int64_t column = 0; column < to; ++column) {
      const double left = column * step, right = left + step;
      const int64_t start = static_cast<int64_t>(left);
      first[column] = start;
      for (int64_t x = start; x < right - 1e-9 && x < from; ++x) {
        const double low = left > x ? left : x, high = right < x + 1 ? right : x + 1;
        weights[column * taps + (x - start)] = static_cast<float>((high - low) / step);
      }
    }
    return true;
  }
  ~Columns() {
    free(first);
    free(weights);
  }
};

template <typename T>
VHARM_HD vf load_samples(const T* p) {
  if constexpr (sizeof(T) == 1) {
    return load_u8(p);
  } else {
    return load_u16(p);
  }
}

// Rows that are summed together, each with its weight.
constexpr int kRows = 4;

// line[x] (+)= sum of weights[r] * rows[r][x], for rows `stride` apart
template <int R, typename T>
void add_rows(const T* const* rows, int64_t stride, const float* weights, int64_t n, bool fresh,
              float* line) {
  vf w[R];
  for (int r = 0; r < R; ++r) w[r] = vf(weights[r]);
  int64_t x = 0;
  for (; x + kWidth <= n; x += kWidth) {
    vf total = fresh ? vf(0.0f) : load(line + x);
    for (int r = 0; r < R; ++r) {
      __builtin_prefetch(rows[r] + R * stride + x);
      total = vfma(load_samples(rows[r] + x), w[r], total);
    }
    store(line + x, total);
  }
  for (; x < n; ++x) {
    float total = fresh ? 0.0f : line[x];
    for (int r = 0; r < R; ++r) total += rows[r][x] * weights[r];
    line[x] = total;
  }
}

template <typename T>
void add_rows(const PlaneView& plane, int64_t y, const float* weights, int count, bool fresh,
              float* line) {
  const T* rows[kRows];
  for (int r = 0; r < count; ++r) rows[r] = reinterpret_cast<const T*>(sample(plane, y + r, 0));
  switch (count) {
    case 1:
      return add_rows<1>(rows, plane.sh, weights, plane.w, fresh, line);
    case 2:
      return add_rows<2>(rows, plane.sh, weights, plane.w, fresh, line);
    case 3:
      return add_rows<3>(rows, plane.sh, weights, plane.w, fresh, line);
    default:
      return add_rows<kRows>(rows, plane.sh, weights, plane.w, fresh, line);
  }
}

// Up to kRows rows from `y` on.
void add_rows(const PlaneView& plane, int64_t y, const float* weights, int count, bool fresh,
              float* line) {
  if (plane.sw == 1 && plane.dtype == DType::u8) {
    return add_rows<uint8_t>(plane, y, weights, count, fresh, line);
  }
  if (plane.sw == 1 && plane.dtype == DType::u16) {
    return add_rows<uint16_t>(plane, y, weights, count, fresh, line);
  }
  alignas(64) float piece[kSpan];
  for (int r = 0; r < count; ++r, fresh = false) {
    for (int64_t x = 0; x < plane.w; x += kSpan) {
      const int n = static_cast<int>(plane.w - x < kSpan ? plane.w - x : kSpan);
      load_plane(sample(plane, y + r, x), plane.dtype, plane.sw, n, weights[r], piece);
      for (int i = 0; i < n; ++i) line[x + i] = fresh ? piece[i] : line[x + i] + piece[i];
    }
  }
}

}  // namespace

Status shrink_plane(const PlaneView& plane, const PlaneView& out, int threads) {
  if (out.dtype != DType::f32) return Status::unsupported;
  if (out.h == 0 || out.w == 0) return Status::ok;
  bool out_of_memory = false;
  const double step = double(plane.h) / out.h;
  Columns columns;
  if (!columns.make(plane.w, out.w)) return Status::out_of_memory;
  // What is read past the last sample has weight 0, and must be a number for that.
  const size_t room = (size_t(plane.w + columns.taps) * 4 + 63) / 64 * 64;
  parallel_for(out.h, threads, [&](int64_t row) {
    // Weighted sum of the source rows under this one, then of its columns.
    auto* line = static_cast<float*>(aligned_alloc(64, room));
    if (line == nullptr) {
      out_of_memory = true;
      return;
    }
    memset(line + plane.w, 0, room - size_t(plane.w) * 4);
    const double top = row * step, bottom = top + step;
    const int64_t first = static_cast<int64_t>(top);
    int64_t end = first;
    while (end < bottom - 1e-9 && end < plane.h) ++end;
    for (int64_t y = first; y < end; y += kRows) {
      const int count = static_cast<int>(end - y < kRows ? end - y : kRows);
      float weights[kRows];
      for (int r = 0; r < count; ++r) {
        const double at = y + r, low = top > at ? top : at,
                     high = bottom < at + 1 ? bottom : at + 1;
        weights[r] = static_cast<float>((high - low) / step);
      }
      add_rows(plane, y, weights, count, y == first, line);
    }
    const auto weighted = [&](int64_t column) {
      const float* from = line + columns.first[column];
      const float* weights = columns.weights + column * columns.taps;
      vf total = load(from) * load(weights);
      for (int i = kWidth; i < columns.taps; i += kWidth) {
        total = vfma(load(from + i), load(weights + i), total);
      }
      return total;
    };
    const auto target = [&](int64_t column) {
      return reinterpret_cast<float*>(sample(out, row, column));
    };
    int64_t column = 0;
    for (; column + 4 <= out.w; column += 4) {
      float sums[4];
      store_sums(sums, weighted(column), weighted(column + 1), weighted(column + 2),
                 weighted(column + 3));
      for (int i = 0; i < 4; ++i) *target(column + i) = sums[i];
    }
    for (; column < out.w; ++column) *target(column) = sum(weighted(column));
    free(line);
  });
  return out_of_memory ? Status::out_of_memory : Status::ok;
}

Status plane_sums(const PlaneView* planes, int count, const PlaneView& mask, float black,
                  int64_t step, int log2_x, int log2_y, double* sums) {
  for (int c = 0; c <= count; ++c) sums[c] = 0;
  alignas(64) float weights[kSpan], samples[kSpan];
  const int64_t width = kSpan * step;  // luma columns from which a span is picked
  for (int64_t y = 0; y < mask.h; y += step) {
    for (int64_t x = 0; x < mask.w; x += width) {
      const int64_t across = mask.w - x < width ? mask.w - x : width;
      const int n = static_cast<int>((across + step - 1) / step);
      load_plane(sample(mask, y, x), mask.dtype, mask.sw * step, n, 1, weights);
      double total = 0;
      for (int i = 0; i < n; ++i) {
        weights[i] = weights[i] > black ? weights[i] - black : 0;
        total += weights[i];
      }
      sums[count] += total;
      for (int c = 0; total > 0 && c < count; ++c) {
        // Planes after the first may be subsampled, and have the same points less far apart.
        const int sx = c > 0 ? log2_x : 0, sy = c > 0 ? log2_y : 0;
        load_plane(sample(planes[c], y >> sy, x >> sx), planes[c].dtype,
                   planes[c].sw * (step >> sx), n, 1, samples);
        double sum = 0;
        for (int i = 0; i < n; ++i) sum += double(weights[i]) * samples[i];
        sums[c] += sum;
      }
    }
  }
  return Status::ok;
}

}  // namespace VHARM_ISA
}  // namespace vharm
