// SPDX-License-Identifier: Apache-2.0
// 3-D tables applied to images and YUV frames, as span operations.
//
// A pixel reads four nodes from anywhere in the table, so the loads are what it costs. For 8-bit
// results the table is repacked into four int16 a node, so that one 64-bit load brings all three
// channels: a third of the loads of a float table, and half its size. What is packed is the change
// `lut - identity` (linear interpolation reproduces the identity), centred and scaled by its own
// range, so that 16 bits go a long way: with changes of up to 0.3 a step is 1/430 of a level.
// 8-bit inputs have places that are whole multiples of 1/255, so their weights are exact.
#include <stdlib.h>

#include "cpu/lut.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

// ---- float tables -------------------------------------------------------------------------------

template <Interpolation kind>
void run_float(const void* self, int64_t image, float* r, float* g, float* b, int n) {
  const auto& lut = *static_cast<const LutView*>(self);
  const float* table = lut_of(lut, image);
  for (int i = 0; i < n; i += kWidth) {
    const LutCell<vf> cell = lut_cell(load(r + i), load(g + i), load(b + i), lut.size);
    Nodes nodes;
    int count = 4;
    if (kind == Interpolation::tetrahedral) {
      tetrahedral_nodes(cell, lut_path(cell, lut.size), lut.size, nodes);
    } else {
      trilinear_nodes(cell, lut.size, nodes);
      count = 8;
    }
    Colour sum = scaled(nodes.weight[0], lut_colour(table, nodes.index[0]));
    for (int k = 1; k < count; ++k) {
      add_scaled(nodes.weight[k], lut_colour(table, nodes.index[k]), sum);
    }
    store(r + i, sum.v[0]);
    store(g + i, sum.v[1]);
    store(b + i, sum.v[2]);
  }
}

// ---- packed tables ------------------------------------------------------------------------------

#if !defined(VHARM_ISA_baseline)

struct Packed {
  const int16_t* nodes;  // [tables, size^3, 4]
  const float* ranges;   // [tables, 6]: middle and half range of each channel
  int64_t tables, count;
  int size;
  float unit;  // the weights' sum: 255 for 8-bit samples, else 2^14
};

#if defined(VHARM_ISA_avx512)
using vi = __m512i;
VHARM_HD vi whole(vf a) { return _mm512_cvtps_epi32(a.v); }
VHARM_HD vf as_float(vi a) { return _mm512_cvtepi32_ps(a); }
VHARM_HD vi subtract(vi a, vi b) { return _mm512_sub_epi32(a, b); }
VHARM_HD vi add(vi a, vi b) { return _mm512_add_epi32(a, b); }
VHARM_HD vi constant(int x) { return _mm512_set1_epi32(x); }
VHARM_HD vi dot_pairs(vi a, vi b) { return _mm512_madd_epi16(a, b); }
VHARM_HD vi pair_low(vi a, vi b) {
  return _mm512_mask_blend_epi16(0xaaaaaaaau, a, _mm512_slli_epi32(b, 16));
}
VHARM_HD vi pair_high(vi a, vi b) {
  return _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(a, 16), b);
}
#else
using vi = __m256i;
VHARM_HD vi whole(vf a) { return _mm256_cvtps_epi32(a.v); }
VHARM_HD vf as_float(vi a) { return _mm256_cvtepi32_ps(a); }
VHARM_HD vi subtract(vi a, vi b) { return _mm256_sub_epi32(a, b); }
VHARM_HD vi add(vi a, vi b) { return _mm256_add_epi32(a, b); }
VHARM_HD vi constant(int x) { return _mm256_set1_epi32(x); }
VHARM_HD vi dot_pairs(vi a, vi b) { return _mm256_madd_epi16(a, b); }
VHARM_HD vi pair_low(vi a, vi b) { return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa); }
VHARM_HD vi pair_high(vi a, vi b) { return _mm256_blend_epi16(_mm256_srli_epi32(a, 16), b, 0xaa); }
#endif

// Weights below 2^15 as the two halves of an int32.
VHARM_HD vi pair(vi a, vi b) { return pair_low(a, b); }

void run_packed(const void* self, int64_t image, float* r, float* g, float* b, int n) {
  const auto& p = *static_cast<const Packed*>(self);
  const int64_t t = p.tables > 1 ? image : 0;
  const int16_t* nodes = p.nodes + t * p.count * 4;
  const float* range = p.ranges + t * 6;
  const vf unit(p.unit);
  const vi sum = constant(int(p.unit));
  const vf top(float(p.size) * float(p.size) + float(p.size) + 1.0f);
  vf scale[3], middle[3];
  for (int c = 0; c < 3; ++c) {
    middle[c] = vf(range[2 * c]);
    scale[c] = vf(range[2 * c + 1] / (32767.0f * p.unit));
  }
  for (int i = 0; i < n; i += kWidth) {
    const vf zero(0.0f), one(1.0f);
    // Operands in the order that turns a NaN into 0: integers have none.
    const vf vr = vmin(vmax(load(r + i), zero), one), vg = vmin(vmax(load(g + i), zero), one);
    const vf vb = vmin(vmax(load(b + i), zero), one);
    const LutCell<vf> cell = lut_cell(vr, vg, vb, p.size);
    const LutPath<vf> path = lut_path(cell, p.size);
    const vi high = whole(path.high * unit), mid = whole(path.mid * unit);
    const vi low = whole(path.low * unit);
    const vi w01 = pair(subtract(sum, high), subtract(high, mid));
    const vi w23 = pair(subtract(mid, low), low);
    const Quads q0 = gather_quads(nodes, to_index(cell.node));
    const Quads q1 = gather_quads(nodes, to_index(cell.node + path.one));
    const Quads q2 = gather_quads(nodes, to_index(cell.node + path.two));
    const Quads q3 = gather_quads(nodes, to_index(cell.node + top));
    const vi sr =
        add(dot_pairs(pair_low(q0.ab, q1.ab), w01), dot_pairs(pair_low(q2.ab, q3.ab), w23));
    const vi sg =
        add(dot_pairs(pair_high(q0.ab, q1.ab), w01), dot_pairs(pair_high(q2.ab, q3.ab), w23));
    const vi sb =
        add(dot_pairs(pair_low(q0.cd, q1.cd), w01), dot_pairs(pair_low(q2.cd, q3.cd), w23));
    store(r + i, vfma(as_float(sr), scale[0], vr + middle[0]));
    store(g + i, vfma(as_float(sg), scale[1], vg + middle[1]));
    store(b + i, vfma(as_float(sb), scale[2], vb + middle[2]));
  }
}

// Three values for each node along a line of blue, with room for whole vectors.
constexpr int kLine = (3 * kMaxLutSize + 15) / 16 * 16;
struct alignas(64) Line {
  float v[kLine];
};

VHARM_HD void identity_line(int size, int r, int g, Line& line) {
  const float step = 1.0f / float(size - 1);
  for (int b = 0; b < size; ++b) {
    line.v[3 * b] = float(r) * step;
    line.v[3 * b + 1] = float(g) * step;
    line.v[3 * b + 2] = float(b) * step;
  }
}

// The change along one line; past its end 0, which is no harm to a range test or a table.
VHARM_HD void change_line(const float* table, int size, int r, int g, Line& line) {
  const int n = 3 * size;
  Line raw;
  memcpy(raw.v, table + (int64_t(r) * size + g) * n, size_t(n) * sizeof(float));
  identity_line(size, r, g, line);
  for (int i = 0; i < n; i += kWidth) store(line.v + i, load(raw.v + i) - load(line.v + i));
}

// The middle and half range of each channel's change; false if the table is too wild to pack.
bool find_ranges(const float* table, int size, float* range, int threads) {
  float low[kMaxLutSize][3], high[kMaxLutSize][3];
  parallel_for(size, threads, [&](int64_t r) {
    Line lo, hi, change;
    vf sound(0.0f);  // NaN once an infinity or a NaN has been seen
    for (int g = 0; g < size; ++g) {
      change_line(table, size, int(r), g, change);
      for (int i = 3 * size; i < padded(3 * size); ++i) change.v[i] = 0;
      for (int i = 0; i < 3 * size; i += kWidth) {
        const vf d = load(change.v + i);
        store(lo.v + i, g == 0 ? d : vmin(d, load(lo.v + i)));
        store(hi.v + i, g == 0 ? d : vmax(d, load(hi.v + i)));
        sound = vfma(d, vf(0.0f), sound);
      }
    }
    const float spoil = sum(sound);
    for (int c = 0; c < 3; ++c) {
      low[r][c] = lo.v[c] + spoil;
      high[r][c] = hi.v[c] + spoil;
      for (int i = 3 + c; i < 3 * size; i += 3) {
        low[r][c] = lo.v[i] < low[r][c] ? lo.v[i] : low[r][c];
        high[r][c] = hi.v[i] > high[r][c] ? hi.v[i] : high[r][c];
      }
    }
  });
  for (int c = 0; c < 3; ++c) {
    float lo = 0, hi = 0;
    for (int r = 0; r < size; ++r) {
      // Wild tables, with values far outside [0, 1], need floats: 16 bits of them are too coarse.
      if (!(low[r][c] > -2.0f && high[r][c] < 2.0f)) return false;
      lo = r > 0 && lo < low[r][c] ? lo : low[r][c];
      hi = r > 0 && hi > high[r][c] ? hi : high[r][c];
    }
    range[2 * c] = 0.5f * (lo + hi);
    range[2 * c + 1] = 0.5f * (hi - lo);
  }
  return true;
}

bool pack(const float* table, int size, int16_t* nodes, float* range, int threads) {
  if (!find_ranges(table, size, range, threads)) return false;
  Line middle, inverse;
  for (int i = 0; i < padded(3 * size); ++i) {
    const float half = range[2 * (i % 3) + 1];
    middle.v[i] = range[2 * (i % 3)];
    inverse.v[i] = half > 0 ? 32767.0f / half : 0;
  }
  parallel_for(size, threads, [&](int64_t r) {
    Line change;
    int32_t bits[kLine];
    for (int g = 0; g < size; ++g) {
      change_line(table, size, int(r), g, change);
      for (int i = 0; i < 3 * size; i += kWidth) {
        // The magic number rounds to an integer, which the low bits then hold.
        const vf x = (load(change.v + i) - load(middle.v + i)) * load(inverse.v + i);
        store(change.v + i, vmin(vmax(x, vf(-32767.0f)), vf(32767.0f)) + vf(12582912.0f));
      }
      memcpy(bits, change.v, size_t(3 * size) * sizeof(int32_t));
      int16_t* to = nodes + (r * size + g) * size * 4;
      for (int b = 0; b < size; ++b) {
        for (int c = 0; c < 3; ++c) to[4 * b + c] = int16_t(bits[3 * b + c]);
        to[4 * b + 3] = 0;
      }
    }
  });
  return true;
}

// Packed tables, if there is memory for them and they are tame enough.
class PackedTables {
 public:
  PackedTables(const LutView& lut, float unit, int threads) {
    const int64_t count = int64_t(lut.size) * lut.size * lut.size;
    const size_t bytes = size_t(lut.batch * count) * 8;
    nodes_ = static_cast<int16_t*>(malloc(bytes));
    ranges_ = static_cast<float*>(malloc(size_t(lut.batch) * 6 * sizeof(float)));
    view_ = {nodes_, ranges_, lut.batch, count, lut.size, unit};
    ok_ = nodes_ != nullptr && ranges_ != nullptr;
    for (int64_t t = 0; ok_ && t < lut.batch; ++t) {
      ok_ = pack(lut.data + t * count * 3, lut.size, nodes_ + t * count * 4, ranges_ + t * 6,
                 threads);
    }
  }
  ~PackedTables() {
    free(nodes_);
    free(ranges_);
  }
  PackedTables(const PackedTables&) = delete;
  PackedTables& operator=(const PackedTables&) = delete;
  bool ok() const { return ok_; }
  const Packed* view() const { return &view_; }

 private:
  int16_t* nodes_;
  float* ranges_;
  Packed view_;
  bool ok_;
};

bool worth_packing(const LutView& lut, Interpolation kind, DType dtype, int64_t pixels) {
  const int64_t nodes = int64_t(lut.size) * lut.size * lut.size * lut.batch;
  return dtype == DType::u8 && kind == Interpolation::tetrahedral && pixels > 2 * nodes;
}

#endif  // !baseline

SpanOp float_op(const LutView& lut, Interpolation kind) {
  if (kind == Interpolation::trilinear) return {run_float<Interpolation::trilinear>, &lut};
  return {run_float<Interpolation::tetrahedral>, &lut};
}

bool valid(const LutView& lut, Interpolation kind) {
  return lut.size >= kMinLutSize && lut.size <= kMaxLutSize &&
         (kind == Interpolation::tetrahedral || kind == Interpolation::trilinear);
}

}  // namespace

Status apply_lut(const ImageView& image, const MaskView& mask, const LutView& lut,
                 Interpolation interpolation, const ImageView& out, int threads) {
  if (!valid(lut, interpolation)) return Status::unsupported;
#if !defined(VHARM_ISA_baseline)
  if (worth_packing(lut, interpolation, image.dtype, image.n * image.h * image.w)) {
    const PackedTables packed(lut, 255.0f, threads);
    if (packed.ok()) {
      return apply_image({run_packed, packed.view()}, image, mask, out, threads);
    }
  }
#endif
  return apply_image(float_op(lut, interpolation), image, mask, out, threads);
}

Status apply_lut_yuv(const PlaneView* planes, const MaskView& mask, const LutView& lut,
                     Interpolation interpolation, const YuvFormat& format, const PlaneView* out,
                     int threads) {
  if (!valid(lut, interpolation)) return Status::unsupported;
  const LutView first{lut.data, 1, lut.size};
#if !defined(VHARM_ISA_baseline)
  if (worth_packing(first, interpolation, planes[0].dtype, planes[0].h * planes[0].w)) {
    const PackedTables packed(first, 16384.0f, threads);
    if (packed.ok()) {
      return apply_yuv({run_packed, packed.view()}, planes, mask, format, out, threads);
    }
  }
#endif
  return apply_yuv(float_op(first, interpolation), planes, mask, format, out, threads);
}

}  // namespace VHARM_ISA
}  // namespace vharm
