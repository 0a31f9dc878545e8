// SPDX-License-Identifier: Apache-2.0
// What the attention kernels share: feature maps packed into small float tiles, and scratch.
#pragma once

#include <stdlib.h>

#include "cpu/pixels.hpp"
#include "runtime/parallel.hpp"
#include "vharm/attention.hpp"

namespace vharm {
namespace VHARM_ISA {

// 2^a for a <= 127, and 0 in effect below 2^-150.
VHARM_HD vf power_of_two(vf a) { return vexp2(vmax(vf(-150.0f), a)); }

// One allocation per task, cut into aligned pieces.
class Scratch {
 public:
  explicit Scratch(size_t floats) {
    if (posix_memalign(&memory_, 64, (floats + 16) * sizeof(float)) != 0) memory_ = nullptr;
    next_ = static_cast<float*>(memory_);
  }
  ~Scratch() { free(memory_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  bool failed() const { return memory_ == nullptr; }
  float* take(int64_t floats) {
    float* piece = next_;
    next_ += rounded(floats);
    return piece;
  }
  static int64_t rounded(int64_t floats) { return (floats + 15) / 16 * 16; }

 private:
  void* memory_ = nullptr;
  float* next_ = nullptr;
};

VHARM_HD int64_t offset_of(const TensorView& f, int64_t n, int64_t c, int64_t y, int64_t x) {
  return n * f.sn + c * f.sc + y * f.sh + x * f.sw;
}
VHARM_HD void store_one(const TensorView& f, int64_t offset, float value) {
  if (f.dtype == DType::f32) {
    static_cast<float*>(f.data)[offset] = value;
  } else {
    static_cast<uint16_t*>(f.data)[offset] = f.dtype == DType::f16 ? to_f16(value) : to_bf16(value);
  }
}

// Whether a sample of a float mask lies in [0, 1], where its gradient passes.
VHARM_HD float passes(const MaskView& mask, int64_t offset) {
  const float raw = load_one(mask.data, mask.dtype, offset);
  return raw >= 0.0f && raw <= 1.0f ? 1.0f : 0.0f;
}

// float* as a view, [n, c, h, w] contiguous.
VHARM_HD TensorView float_planes(const float* data, int64_t n, int64_t c, int64_t h, int64_t w) {
  return {const_cast<float*>(data), DType::f32, n, c, h, w, c * h * w, h * w, w, 1};
}

// A tile of one image in floats, `[rows][channels][stride]`: a row's channels lie side by side, so
// that planes whose size is a power of two do not fall into the same cache sets.
struct Packed {
  float* data;
  int64_t stride;
  int channels;

  VHARM_HD float* at(int64_t row, int channel, int64_t x) const {
    return data + (row * channels + channel) * stride + x;
  }
  VHARM_HD int64_t row_step() const { return channels * stride; }
};

// Where a tile's samples come from: `rows` rows from y on, `width` columns from x on (negative or
// beyond the image: zeros), and in the tile as many columns as its stride.
struct Area {
  int64_t y, rows, x, width;
};

VHARM_HD int64_t later(int64_t a, int64_t b) { return a > b ? a : b; }
VHARM_HD int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }

// Copies of fixed width instead of calls of memcpy: rows of tiles are a few vectors long. `to` has
// room for the whole last vector.
VHARM_HD void copy_floats(const float* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(to + i, load(from + i));
  if (i == count) return;
  if (count >= kWidth) {
    store(to + count - kWidth, load(from + count - kWidth));
  } else {
    for (; i < count; ++i) to[i] = from[i];
  }
}

// Zeros in [begin, end).
VHARM_HD void clear_floats(float* to, int64_t begin, int64_t end) {
  for (; begin + kWidth <= end; begin += kWidth) store(to + begin, vf(0.0f));
  for (; begin < end; ++begin) to[begin] = 0;
}

// 1 where the mask is set, 0 elsewhere and outside the image. Whether any is set.
inline bool pack_set(const MaskView& mask, int64_t n, int64_t image_width, const Area& area,
                     const Packed& to) {
  bool some = false;
  const int64_t begin = later(area.x, 0), end = earlier(area.x + area.width, image_width);
  for (int64_t r = 0; r < area.rows; ++r) {
    float* row = to.at(r, 0, 0);
    clear_floats(row, 0, to.stride);
    if (begin >= end) continue;
    float* values = row + (begin - area.x);
    const int64_t count = end - begin;
    some = true;
    if (mask.data == nullptr) {
      for (int64_t i = 0; i < count; ++i) values[i] = 1.0f;
      continue;
    }
    const int64_t offset = n * mask.sn + (area.y + r) * mask.sh + begin * mask.sw;
    load_mask(mask, offset, static_cast<int>(count), values);
    for (int64_t i = 0; i < count; i += kWidth) {
      store(values + i, select(less(vf(0.0f), load(values + i)), vf(1.0f), vf(0.0f)));
    }
  }
  return some;
}

// The smallest area inside `area` and the image that holds every set position; no rows if none.
inline Area bounds(const MaskView& mask, int64_t n, int64_t image_width, const Area& area,
                   float* row) {
  const int64_t begin = later(area.x, 0), end = earlier(area.x + area.width, image_width);
  if (mask.data == nullptr || begin >= end) {
    return {area.y, begin < end ? area.rows : 0, begin, end - begin};
  }
  int64_t top = area.rows, bottom = 0, left = end, right = begin;
  for (int64_t r = 0; r < area.rows; ++r) {
    const int64_t offset = n * mask.sn + (area.y + r) * mask.sh + begin * mask.sw;
    const MaskSpan touched = load_mask(mask, offset, static_cast<int>(end - begin), row);
    if (touched.begin >= touched.end) continue;
    top = earlier(top, r);
    bottom = r + 1;
    left = earlier(left, begin + touched.begin);
    right = later(right, begin + touched.end);
  }
  return {area.y + top, later(bottom - top, 0), left, right - left};
}

// `set`, with the same rows and columns, makes zeros of what is not set: a NaN there must not get
// through a weight of zero. Columns from `read` on are never looked at.
inline void pack(const TensorView& from, int64_t n, const Area& area, int64_t read,
                 const Packed* set, const Packed& to) {
  const int64_t begin = later(area.x, 0), end = earlier(area.x + area.width, from.w);
  const int64_t left = begin - area.x, count = later(end - begin, 0);
  const bool plain = from.dtype == DType::f32 && from.sw == 1;
  for (int c = 0; c < to.channels; ++c) {
    for (int64_t r = 0; r < area.rows; ++r) {
      float* row = to.at(r, c, 0);
      clear_floats(row, 0, count > 0 ? left : 0);
      if (plain && count > 0) {
        copy_floats(static_cast<const float*>(from.data) + offset_of(from, n, c, area.y + r, begin),
                    count, row + left);
      } else if (count > 0) {
        const int64_t offset = offset_of(from, n, c, area.y + r, begin);
        load_plane(at(static_cast<const void*>(from.data), from.dtype, offset), from.dtype, from.sw,
                   static_cast<int>(count), 1.0f, row + left);
      }
      clear_floats(row, count > 0 ? left + count : 0, read);
      if (set == nullptr) continue;
      const float* keep = set->at(r, 0, 0);
      for (int64_t i = 0; i < read; i += kWidth) {
        store(row + i, select(less(vf(0.0f), load(keep + i)), load(row + i), vf(0.0f)));
      }
    }
  }
}

}  // namespace VHARM_ISA
}  // namespace vharm
