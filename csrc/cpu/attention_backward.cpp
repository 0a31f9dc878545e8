// SPDX-License-Identifier: Apache-2.0
// Neighbourhood attention, backward, in two passes over tiles: queries gather from the keys they
// see, then keys from the queries that see them. Both make the scores again, so nothing is added
// to by two tasks.
#include "cpu/attention_window.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

struct Backward {
  const TensorView &grad, &q, &k, &v;
  const MaskView &mask, &key_mask;
  int heads;
  float scale;
  TensorView lse, inner;
  const TensorView &grad_q, &grad_k, &grad_v;
  Tiling tiling;
};

// A pass seen from its own positions (queries, then keys) and from those around them.
struct Tiles {
  Packed own_set, around_set;
  Packed own_a, own_b;        // query and grad, then key and value
  Packed around_a, around_b;  // key and value, then query and grad
  Packed lse, inner;          // of the queries, wherever they are
  Packed row_a, row_b;        // results
  float *weights, *slopes;
};

struct Pass {
  const Backward& call;
  Rim rim;
  bool keys;  // the own positions are keys
};

const MaskView& own_mask(const Pass& pass) {
  return pass.keys ? pass.call.key_mask : pass.call.mask;
}
const MaskView& around_mask(const Pass& pass) {
  return pass.keys ? pass.call.mask : pass.call.key_mask;
}

void fill_tiles(const Pass& pass, int64_t n, const Area& own, const Area& around, Tiles& t,
                Scratch& scratch) {
  const Backward& call = pass.call;
  const int64_t narrow = call.tiling.stride(), wide = pass.rim.stride(call.tiling);
  const int64_t tall = pass.rim.tile_rows(call.tiling), rows = call.tiling.rows;
  const int cq = static_cast<int>(call.q.c), cv = static_cast<int>(call.v.c);
  const int results = pass.keys ? cv : call.heads;
  t.own_set = {scratch.take(rows * narrow), narrow, 1};
  t.around_set = {scratch.take(tall * wide), wide, 1};
  t.row_a = {scratch.take(narrow * cq), narrow, cq};
  t.row_b = {scratch.take(narrow * results), narrow, results};
  t.own_a = {scratch.take(rows * narrow * cq), narrow, cq};
  t.own_b = {scratch.take(rows * narrow * cv), narrow, cv};
  t.around_a = {scratch.take(tall * wide * cq), wide, cq};
  t.around_b = {scratch.take(tall * wide * cv), wide, cv};
  t.weights = scratch.take(pass.rim.offsets() * kWidth);
  t.slopes = scratch.take(pass.rim.offsets() * kWidth);
  pack_set(own_mask(pass), n, call.tiling.w, own, t.own_set);
  pack_set(around_mask(pass), n, call.tiling.w, around, t.around_set);
  const Packed* set = around_mask(pass).data == nullptr ? nullptr : &t.around_set;
  const int64_t lanes = padded(static_cast<int>(own.width));
  const int64_t read = lanes + pass.rim.columns() - 1;
  pack(pass.keys ? call.k : call.q, n, own, lanes, nullptr, t.own_a);
  pack(pass.keys ? call.v : call.grad, n, own, lanes, nullptr, t.own_b);
  pack(pass.keys ? call.q : call.k, n, around, read, set, t.around_a);
  pack(pass.keys ? call.grad : call.v, n, around, read, set, t.around_b);
  const int64_t stride = pass.keys ? wide : narrow, height = pass.keys ? tall : rows;
  t.lse = {scratch.take(height * stride * call.heads), stride, call.heads};
  t.inner = {scratch.take(height * stride * call.heads), stride, call.heads};
  pack(call.lse, n, pass.keys ? around : own, pass.keys ? read : lanes, nullptr, t.lse);
  if (pass.keys) pack(call.inner, n, around, read, nullptr, t.inner);
}

size_t floats(const Pass& pass) {
  const Tiling& tiling = pass.call.tiling;
  const int64_t narrow = tiling.stride(), wide = pass.rim.stride(tiling), heads = pass.call.heads;
  const int64_t both = pass.call.q.c + pass.call.v.c;
  const int64_t own = tiling.rows * narrow, around = pass.rim.tile_rows(tiling) * wide;
  return own * (1 + both) + around * (1 + both) + later(own, around) * 2 * heads +
         narrow * (both + heads) + 2 * pass.rim.offsets() * kWidth + wide + 16 * 16;
}

// dq, and inner for the second pass.
void query_vector(const Pass& pass, const Tiles& t, const Rows& rows, int64_t r, int64_t x) {
  const Backward& call = pass.call;
  const int64_t columns = pass.rim.columns();
  const int dq = t.own_a.channels / call.heads, dv = t.own_b.channels / call.heads;
  const Reach there = reach(t.around_set, 0, x, rows, columns);
  const vf zero(0.0f), factor(call.scale * kLog2E), scale(call.scale);
  for (int head = 0; head < call.heads; ++head) {
    const Reach k = reach(t.around_a, head * dq, x, rows, columns);
    const Reach v = reach(t.around_b, head * dv, x, rows, columns);
    dot_window(t.own_a.at(r, head * dq, x), t.own_a.stride, k, dq, t.weights);
    dot_window(t.own_b.at(r, head * dv, x), t.own_b.stride, v, dv, t.slopes);
    const vf lse = load(t.lse.at(r, head, x));
    vf inner(0.0f);
    each_offset(there, [&](int64_t step, int64_t place) {
      const vf power = power_of_two(load(t.weights + place) * factor - lse);
      const vf weight = select(less(zero, load(there.data + step)), power, zero);
      store(t.weights + place, weight);
      inner = vfma(weight, load(t.slopes + place), inner);
    });
    store(t.row_b.at(0, head, x), inner);
    if (call.grad_q.data == nullptr) continue;
    each_offset(there, [&](int64_t, int64_t place) {
      const vf slope = load(t.weights + place) * (load(t.slopes + place) - inner) * scale;
      store(t.slopes + place, slope);
    });
    sum_window(t.slopes, k, dq, vf(1.0f), t.row_a.at(0, head * dq, x), t.row_a.stride);
  }
}

// dk and dv.
void key_vector(const Pass& pass, const Tiles& t, const Rows& rows, int64_t r, int64_t x) {
  const Backward& call = pass.call;
  const int64_t columns = pass.rim.columns();
  const int dq = t.own_a.channels / call.heads, dv = t.own_b.channels / call.heads;
  const Reach there = reach(t.around_set, 0, x, rows, columns);
  if (!reaches_any(there)) return;
  const vf zero(0.0f), factor(call.scale * kLog2E), scale(call.scale);
  for (int head = 0; head < call.heads; ++head) {
    const Reach q = reach(t.around_a, head * dq, x, rows, columns);
    const Reach grad = reach(t.around_b, head * dv, x, rows, columns);
    const Reach lse = reach(t.lse, head, x, rows, columns);
    const Reach inner = reach(t.inner, head, x, rows, columns);
    dot_window(t.own_a.at(r, head * dq, x), t.own_a.stride, q, dq, t.weights);
    if (call.grad_k.data != nullptr) {
      dot_window(t.own_b.at(r, head * dv, x), t.own_b.stride, grad, dv, t.slopes);
    }
    int64_t place = 0;
    for (int64_t i = 0; i < there.rows; ++i) {
      for (int64_t d = 0; d < columns; ++d, place += kWidth) {
        const vf score = load(t.weights + place) * factor;
        const vf power = power_of_two(score - load(lse.data + i * lse.row_step + d));
        const vf set = load(there.data + i * there.row_step + d);
        const vf weight = select(less(zero, set), power, zero);
        store(t.weights + place, weight);
        if (call.grad_k.data == nullptr) continue;
        const vf slope = load(t.slopes + place) - load(inner.data + i * inner.row_step + d);
        store(t.slopes + place, weight * slope * scale);
      }
    }
    if (call.grad_k.data != nullptr) {
      sum_window(t.slopes, q, dq, vf(1.0f), t.row_a.at(0, head * dq, x), t.row_a.stride);
    }
    if (call.grad_v.data != nullptr) {
      sum_window(t.weights, grad, dv, vf(1.0f), t.row_b.at(0, head * dv, x), t.row_b.stride);
    }
  }
}

bool backward_tile(const Pass& pass, int64_t n, const Area& tile) {
  const Backward& call = pass.call;
  Scratch scratch(floats(pass));
  if (scratch.failed()) return false;
  const Area own = work_in(pass.rim, tile, own_mask(pass), around_mask(pass), n, call.tiling,
                           scratch.take(pass.rim.stride(call.tiling)));
  const TensorView& to_a = pass.keys ? call.grad_k : call.grad_q;
  const TensorView& to_b = pass.keys ? call.grad_v : call.inner;
  if (differ(own, tile)) {
    if (to_a.data != nullptr) clear_tile(to_a, n, tile);
    if (to_b.data != nullptr) clear_tile(to_b, n, tile);
  }
  if (own.rows == 0) return true;
  Tiles t;
  const Area around = pass.rim.around(own, call.tiling.h);
  fill_tiles(pass, n, own, around, t, scratch);
  for (int64_t r = 0; r < own.rows; ++r) {
    clear_row(t.row_a);
    clear_row(t.row_b);
    const Rows rows = rows_of(pass.rim, own.y + r, call.tiling.h, around);
    const float* set = t.own_set.at(r, 0, 0);
    for (int64_t x = 0; x < own.width; x += kWidth) {
      if (!any(less(vf(0.0f), load(set + x)))) continue;
      if (pass.keys) {
        key_vector(pass, t, rows, r, x);
      } else {
        query_vector(pass, t, rows, r, x);
      }
    }
    if (to_a.data != nullptr) store_row(t.row_a, set, to_a, n, own.y + r, own.x, own.width);
    if (to_b.data != nullptr) store_row(t.row_b, set, to_b, n, own.y + r, own.x, own.width);
  }
  return true;
}

bool run(const Pass& pass, int threads) {
  const int64_t tiles = pass.call.tiling.count();
  int failed = 0;
  parallel_for(pass.call.q.n * tiles, threads, [&](int64_t task) {
    if (!backward_tile(pass, task / tiles, pass.call.tiling.area(task % tiles))) {
      __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
    }
  });
  return failed == 0;
}

}  // namespace

Status neighborhood_attention_backward(const TensorView& grad, const TensorView& q,
                                       const TensorView& k, const TensorView& v,
                                       const MaskView& mask, const MaskView& key_mask,
                                       const float* lse, int64_t window, int heads, float scale,
                                       float* inner, const TensorView& grad_q,
                                       const TensorView& grad_k, const TensorView& grad_v,
                                       int threads) {
  const Backward call{grad,
                      q,
                      k,
                      v,
                      mask,
                      key_mask,
                      heads,
                      scale,
                      float_planes(lse, q.n, heads, q.h, q.w),
                      float_planes(inner, q.n, heads, q.h, q.w),
                      grad_q,
                      grad_k,
                      grad_v,
                      Tiling(q.h, q.w)};
  const Window to_keys = window_of(window);
  const bool keys = grad_k.data != nullptr || grad_v.data != nullptr;
  // The keys' gradient needs inner.
  if (grad_q.data != nullptr || grad_k.data != nullptr) {
    if (!run({call, Rim(to_keys, q.h, q.w), false}, threads)) return Status::out_of_memory;
  }
  if (keys && !run({call, Rim(mirrored(to_keys), q.h, q.w), true}, threads)) {
    return Status::out_of_memory;
  }
  return Status::ok;
}

}  // namespace VHARM_ISA
}  // namespace vharm
