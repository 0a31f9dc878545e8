// SPDX-License-Identifier: Apache-2.0
// Neighbourhood attention, forward: one task per tile; tiles and vectors without a set position
// are only filled with zeros.
#include "cpu/attention_window.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

struct Forward {
  const TensorView &q, &k, &v;
  const MaskView &mask, &key_mask;
  int heads;
  float factor;
  const TensorView& out;
  TensorView lse;
  Tiling tiling;
  Rim rim;
};

// Scores to weights without their sum; gives the sum's inverse (0: no key) and the logarithm.
VHARM_HD vf softmax_window(const Reach& there, float factor, float* scores, vf& lse) {
  const vf none(-3e38f), zero(0.0f), scale(factor);
  vf most = none, sum(0.0f), found(0.0f);
  each_offset(there, [&](int64_t step, int64_t place) {
    const vf valid = load(there.data + step);
    const vf score = load(scores + place) * scale;
    store(scores + place, score);
    most = vmax(most, select(less(zero, valid), score, none));
    found = vmax(found, valid);
  });
  each_offset(there, [&](int64_t step, int64_t place) {
    const auto valid = less(zero, load(there.data + step));
    const vf weight = select(valid, power_of_two(load(scores + place) - most), zero);
    store(scores + place, weight);
    sum = sum + weight;
  });
  const auto some = less(zero, found);
  lse = select(some, most + vlog2(select(some, sum, vf(1.0f))), zero);
  return select(some, vf(1.0f) / sum, zero);
}

struct Tiles {
  Packed set, there, q, k, v, out, lse;
  float* scores;
};

void forward_row(const Forward& call, const Tiles& t, const Area& own, const Area& around,
                 int64_t r) {
  const Rows rows = rows_of(call.rim, own.y + r, call.tiling.h, around);
  const int64_t columns = call.rim.columns();
  const int dq = t.q.channels / call.heads, dv = t.v.channels / call.heads;
  for (int64_t x = 0; x < own.width; x += kWidth) {
    if (!any(less(vf(0.0f), load(t.set.at(r, 0, x))))) continue;
    const Reach there = reach(t.there, 0, x, rows, columns);
    for (int head = 0; head < call.heads; ++head) {
      dot_window(t.q.at(r, head * dq, x), t.q.stride, reach(t.k, head * dq, x, rows, columns), dq,
                 t.scores);
      vf lse;
      const vf inverse = softmax_window(there, call.factor, t.scores, lse);
      store(t.lse.at(0, head, x), lse);
      sum_window(t.scores, reach(t.v, head * dv, x, rows, columns), dv, inverse,
                 t.out.at(0, head * dv, x), t.out.stride);
    }
  }
}

bool forward_tile(const Forward& call, int64_t n, const Area& tile) {
  const int64_t narrow = call.tiling.stride(), wide = call.rim.stride(call.tiling);
  const int64_t tall = call.rim.tile_rows(call.tiling), rows = call.tiling.rows;
  const int cq = static_cast<int>(call.q.c), cv = static_cast<int>(call.v.c);
  Scratch scratch(rows * narrow * (1 + cq) + tall * wide * (1 + cq + cv) +
                  narrow * (cv + call.heads) + call.rim.offsets() * kWidth + wide + 9 * 16);
  if (scratch.failed()) return false;
  const Area own =
      work_in(call.rim, tile, call.mask, call.key_mask, n, call.tiling, scratch.take(wide));
  if (differ(own, tile)) {
    clear_tile(call.out, n, tile);
    clear_tile(call.lse, n, tile);
  }
  if (own.rows == 0) return true;
  Tiles t;
  t.set = {scratch.take(rows * narrow), narrow, 1};
  t.out = {scratch.take(narrow * cv), narrow, cv};
  t.lse = {scratch.take(narrow * call.heads), narrow, call.heads};
  t.there = {scratch.take(tall * wide), wide, 1};
  t.q = {scratch.take(rows * narrow * cq), narrow, cq};
  t.k = {scratch.take(tall * wide * cq), wide, cq};
  t.v = {scratch.take(tall * wide * cv), wide, cv};
  t.scores = scratch.take(call.rim.offsets() * kWidth);
  const Area around = call.rim.around(own, call.tiling.h);
  pack_set(call.mask, n, call.tiling.w, own, t.set);
  pack_set(call.key_mask, n, call.tiling.w, around, t.there);
  const Packed* there = call.key_mask.data == nullptr ? nullptr : &t.there;
  const int64_t lanes = padded(static_cast<int>(own.width));
  const int64_t read = lanes + call.rim.columns() - 1;
  pack(call.q, n, own, lanes, nullptr, t.q);
  pack(call.k, n, around, read, there, t.k);
  pack(call.v, n, around, read, there, t.v);
  for (int64_t r = 0; r < own.rows; ++r) {
    clear_row(t.out);
    clear_row(t.lse);
    forward_row(call, t, own, around, r);
    store_row(t.out, t.set.at(r, 0, 0), call.out, n, own.y + r, own.x, own.width);
    store_row(t.lse, t.set.at(r, 0, 0), call.lse, n, own.y + r, own.x, own.width);
  }
  return true;
}

}  // namespace

Status neighborhood_attention(const TensorView& q, const TensorView& k, const TensorView& v,
                              const MaskView& mask, const MaskView& key_mask, int64_t window,
                              int heads, float scale, const TensorView& out, float* lse,
                              int threads) {
  const Forward call{q,
                     k,
                     v,
                     mask,
                     key_mask,
                     heads,
                     scale * kLog2E,
                     out,
                     float_planes(lse, q.n, heads, q.h, q.w),
                     Tiling(q.h, q.w),
                     Rim(window_of(window), q.h, q.w)};
  int failed = 0;
  parallel_for(q.n * call.tiling.count(), threads, [&](int64_t task) {
    const Area own = call.tiling.area(task % call.tiling.count());
    if (!forward_tile(call, task / call.tiling.count(), own)) {
      __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
    }
  });
  return failed ? Status::out_of_memory : Status::ok;
}

}  // namespace VHARM_ISA
}  // namespace vharm
