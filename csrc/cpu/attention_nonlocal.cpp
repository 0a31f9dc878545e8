// SPDX-License-Identifier: Apache-2.0
// Attention between the set positions of two masks. Set positions are gathered into blocks of
// kBlock, `[block][channel][kBlock]`; a task holds kLanes positions of one side in vectors and runs
// over the blocks of the other, whose samples are broadcast.
#include "cpu/attention.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

constexpr int kVectors = 2, kLanes = kVectors * kWidth;
constexpr int kBlock = 64;
#if defined(VHARM_ISA_avx512)
constexpr int kTall = 8;  // rows of results held in registers
#else
constexpr int kTall = 4;
#endif

// A broadcast operand: element (m, k) at data[m * step_m + k * step_k].
struct Broadcast {
  const float* data;
  int64_t step_m, step_k;
};

template <int M>
VHARM_HD void product_rows(const Broadcast& a, int64_t m0, const float* b, int64_t k, float* c,
                           bool add) {
  vf sums[M][kVectors];
  for (int m = 0; m < M; ++m) {
    for (int i = 0; i < kVectors; ++i) {
      sums[m][i] = add ? load(c + (m0 + m) * kLanes + i * kWidth) : vf(0.0f);
    }
  }
  const float* row = a.data + m0 * a.step_m;
  for (int64_t j = 0; j < k; ++j, row += a.step_k, b += kLanes) {
    vf right[kVectors];
    for (int i = 0; i < kVectors; ++i) right[i] = load(b + i * kWidth);
    for (int m = 0; m < M; ++m) {
      const vf left(row[m * a.step_m]);
      for (int i = 0; i < kVectors; ++i) sums[m][i] = vfma(left, right[i], sums[m][i]);
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int i = 0; i < kVectors; ++i) store(c + (m0 + m) * kLanes + i * kWidth, sums[m][i]);
  }
}

// c [m][kLanes] = a [m][k] b [k][kLanes], plus what was there if `add`.
inline void product(const Broadcast& a, const float* b, int64_t m, int64_t k, float* c, bool add) {
  int64_t i = 0;
  for (; i + kTall <= m; i += kTall) product_rows<kTall>(a, i, b, k, c, add);
  for (; i < m; ++i) product_rows<1>(a, i, b, k, c, add);
}

// ---- gathering ----------------------------------------------------------------------------------

struct Side {
  const Positions& at;
  int64_t width;  // of the image, to find rows

  VHARM_HD int64_t count(int64_t n) const { return at.count[n]; }
  VHARM_HD int64_t position(int64_t n, int64_t i) const { return at.index[n * at.size + i]; }
  VHARM_HD int64_t offset(const TensorView& f, int64_t n, int64_t c, int64_t i) const {
    const int64_t p = position(n, i);
    return offset_of(f, n, c, p / width, p % width);
  }
};

// Channels [first, first + channels) of up to `lanes` positions from i on, zeros behind the last.
void gather_positions(const Side& side, const TensorView& f, int64_t n, int64_t first,
                      int64_t channels, int64_t i, int64_t lanes, float* out) {
  const int64_t count = earlier(lanes, side.count(n) - i);
  int64_t offsets[kBlock];
  for (int64_t l = 0; l < count; ++l) offsets[l] = side.offset(f, n, first, i + l);
  for (int64_t c = 0; c < channels; ++c) {
    float* row = out + c * lanes;
    for (int64_t l = 0; l < count; ++l) {
      row[l] = load_one(f.data, f.dtype, offsets[l] + c * f.sc);
    }
    for (int64_t l = count; l < lanes; ++l) row[l] = 0;
  }
}

void scatter_positions(const Side& side, const float* rows, const TensorView& f, int64_t n,
                       int64_t first, int64_t channels, int64_t i) {
  const int64_t count = earlier(kLanes, side.count(n) - i);
  for (int64_t l = 0; l < count; ++l) {
    const int64_t offset = side.offset(f, n, first, i + l);
    for (int64_t c = 0; c < channels; ++c) {
      store_one(f, offset + c * f.sc, rows[c * kLanes + l]);
    }
  }
}

// One side of the pairs, gathered: [n][heads][blocks][channels per head][kBlock].
struct Gathered {
  float* data;
  int64_t channels, blocks;
  int heads;

  VHARM_HD float* block(int64_t n, int head, int64_t b) const {
    return data + ((n * heads + head) * blocks + b) * channels * kBlock;
  }
};

int64_t most(const Positions& positions, int64_t n) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count = later(count, positions.count[i]);
  return count;
}

Gathered gather_all(const Side& side, const TensorView& f, int heads, float* data, int threads) {
  const Gathered to{data, f.c / heads, (most(side.at, f.n) + kBlock - 1) / kBlock, heads};
  const int64_t per_image = to.blocks * heads;
  parallel_for(f.n * per_image, threads, [&](int64_t task) {
    const int64_t n = task / per_image, b = task % to.blocks;
    const int head = static_cast<int>(task % per_image / to.blocks);
    if (b * kBlock < side.count(n)) {
      gather_positions(side, f, n, head * to.channels, to.channels, b * kBlock, kBlock,
                       to.block(n, head, b));
    }
  });
  return to;
}
int64_t gathered_floats(const Side& side, const TensorView& f) {
  return Scratch::rounded(f.n * f.c * ((most(side.at, f.n) + kBlock - 1) / kBlock * kBlock));
}

// ---- tiles --------------------------------------------------------------------------------------

VHARM_HD int64_t filled(int64_t block, int64_t count) {
  return earlier(kBlock, count - block * kBlock);
}

struct Running {
  float most[kLanes], sum[kLanes];
};

// The weights of one block of keys under the new maximum; what was summed before shrinks with it.
void absorb(float* scores, int64_t keys, float factor, Running& run, float* sums,
            int64_t channels) {
  for (int i = 0; i < kLanes; i += kWidth) {
    const vf before = load(run.most + i);
    vf top = before, sum(0.0f);
    for (int64_t j = 0; j < keys; ++j) {
      const vf score = load(scores + j * kLanes + i) * vf(factor);
      store(scores + j * kLanes + i, score);
      top = vmax(top, score);
    }
    for (int64_t j = 0; j < keys; ++j) {
      const vf weight = power_of_two(load(scores + j * kLanes + i) - top);
      store(scores + j * kLanes + i, weight);
      sum = sum + weight;
    }
    const vf shrink = power_of_two(before - top);
    store(run.sum + i, vfma(load(run.sum + i), shrink, sum));
    store(run.most + i, top);
    for (int64_t c = 0; c < channels; ++c) {
      store(sums + c * kLanes + i, load(sums + c * kLanes + i) * shrink);
    }
  }
}

struct Forward {
  Side queries, keys;
  const TensorView& q;
  Gathered k, v;
  float factor;
  const TensorView& out;
  float* lse;
};

bool forward_task(const Forward& call, int64_t n, int head, int64_t first) {
  const int64_t dq = call.k.channels, dv = call.v.channels, keys = call.keys.count(n);
  Scratch scratch((dq + dv + kBlock) * kLanes + 64);
  if (scratch.failed()) return false;
  float *q = scratch.take(dq * kLanes), *sums = scratch.take(dv * kLanes);
  float* scores = scratch.take(kBlock * kLanes);
  alignas(64) Running run;
  for (int i = 0; i < kLanes; ++i) {
    run.most[i] = -3e38f;
    run.sum[i] = 0;
  }
  memset(sums, 0, size_t(dv) * kLanes * sizeof(float));
  gather_positions(call.queries, call.q, n, head * dq, dq, first, kLanes, q);
  for (int64_t b = 0; b * kBlock < keys; ++b) {
    const int64_t count = filled(b, keys);
    product({call.k.block(n, head, b), 1, kBlock}, q, count, dq, scores, false);
    absorb(scores, count, call.factor, run, sums, dv);
    product({call.v.block(n, head, b), kBlock, 1}, scores, dv, count, sums, true);
  }
  for (int i = 0; i < kLanes; i += kWidth) {
    const vf sum = load(run.sum + i), inverse = vf(1.0f) / sum;
    for (int64_t c = 0; c < dv; ++c) {
      store(sums + c * kLanes + i, load(sums + c * kLanes + i) * inverse);
    }
    store(run.most + i, load(run.most + i) + vlog2(sum));
  }
  scatter_positions(call.queries, sums, call.out, n, head * dv, dv, first);
  const TensorView lse = float_planes(call.lse, call.q.n, call.k.heads, call.q.h, call.q.w);
  scatter_positions(call.queries, run.most, lse, n, head, 1, first);
  return true;
}

// Calls task(n, head, first) for every kLanes positions of a side in images whose other side is
// not empty.
template <class Task>
Status each_tile(const Side& own, const Side& other, int64_t images, int heads, int threads,
                 const Task& task) {
  const int64_t tiles = (most(own.at, images) + kLanes - 1) / kLanes;
  int failed = 0;
  parallel_for(images * heads * tiles, threads, [&](int64_t i) {
    const int64_t n = i / (heads * tiles), first = i % tiles * kLanes;
    const int head = static_cast<int>(i / tiles % heads);
    if (first >= own.count(n) || other.count(n) == 0) return;
    if (!task(n, head, first)) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
  });
  return failed ? Status::out_of_memory : Status::ok;
}

struct Backward {
  Side queries, keys;
  const TensorView &grad, &q, &k, &v;
  TensorView lse, inner;
  float scale;
  int heads;
  const TensorView &grad_q, &grad_k, &grad_v;
};

// Weights and slopes of [count][kLanes] pairs; lse and inner belong to the queries, which are the
// lanes (step 1, row 0) or the rows (step 0).
template <class Statistics>
VHARM_HD void slopes_of(float* weights, float* slopes, int64_t count, float scale,
                        const Statistics& statistics) {
  const vf factor(scale * kLog2E);
  for (int64_t j = 0; j < count; ++j) {
    for (int i = 0; i < kLanes; i += kWidth) {
      float *w = weights + j * kLanes + i, *s = slopes + j * kLanes + i;
      vf lse, inner;
      statistics(j, i, lse, inner);
      const vf weight = power_of_two(load(w) * factor - lse);
      store(w, weight);
      store(s, weight * (load(s) - inner) * vf(scale));
    }
  }
}

// dq of kLanes queries; their inner for the keys.
bool query_task(const Backward& call, const Gathered& k, const Gathered& v, const TensorView& out,
                int64_t n, int head, int64_t first) {
  const int64_t dq = k.channels, dv = v.channels, keys = call.keys.count(n);
  Scratch scratch((2 * dq + 2 * dv + 2 * kBlock + 2) * kLanes + 8 * 16);
  if (scratch.failed()) return false;
  float *q = scratch.take(dq * kLanes), *g = scratch.take(dv * kLanes);
  float *o = scratch.take(dv * kLanes), *sums = scratch.take(dq * kLanes);
  float *weights = scratch.take(kBlock * kLanes), *slopes = scratch.take(kBlock * kLanes);
  float *lse = scratch.take(kLanes), *inner = scratch.take(kLanes);
  gather_positions(call.queries, call.q, n, head * dq, dq, first, kLanes, q);
  gather_positions(call.queries, call.grad, n, head * dv, dv, first, kLanes, g);
  gather_positions(call.queries, out, n, head * dv, dv, first, kLanes, o);
  gather_positions(call.queries, call.lse, n, head, 1, first, kLanes, lse);
  memset(sums, 0, size_t(dq) * kLanes * sizeof(float));
  for (int i = 0; i < kLanes; i += kWidth) {
    vf total(0.0f);
    for (int64_t c = 0; c < dv; ++c) {
      total = vfma(load(g + c * kLanes + i), load(o + c * kLanes + i), total);
    }
    store(inner + i, total);
  }
  scatter_positions(call.queries, inner, call.inner, n, head, 1, first);
  if (call.grad_q.data == nullptr) return true;
  for (int64_t b = 0; b * kBlock < keys; ++b) {
    const int64_t count = filled(b, keys);
    product({k.block(n, head, b), 1, kBlock}, q, count, dq, weights, false);
    product({v.block(n, head, b), 1, kBlock}, g, count, dv, slopes, false);
    slopes_of(weights, slopes, count, call.scale, [&](int64_t, int i, vf& l, vf& d) {
      l = load(lse + i);
      d = load(inner + i);
    });
    product({k.block(n, head, b), kBlock, 1}, slopes, dq, count, sums, true);
  }
  scatter_positions(call.queries, sums, call.grad_q, n, head * dq, dq, first);
  return true;
}

struct Queries {
  Gathered q, grad, lse, inner;
};

// dk and dv of kLanes keys.
bool key_task(const Backward& call, const Queries& from, int64_t n, int head, int64_t first) {
  const int64_t dq = from.q.channels, dv = from.grad.channels, queries = call.queries.count(n);
  Scratch scratch((2 * dq + 2 * dv + 2 * kBlock) * kLanes + 8 * 16);
  if (scratch.failed()) return false;
  float *k = scratch.take(dq * kLanes), *v = scratch.take(dv * kLanes);
  float *dk = scratch.take(dq * kLanes), *dval = scratch.take(dv * kLanes);
  float *weights = scratch.take(kBlock * kLanes), *slopes = scratch.take(kBlock * kLanes);
  gather_positions(call.keys, call.k, n, head * dq, dq, first, kLanes, k);
  gather_positions(call.keys, call.v, n, head * dv, dv, first, kLanes, v);
  memset(dk, 0, size_t(dq) * kLanes * sizeof(float));
  memset(dval, 0, size_t(dv) * kLanes * sizeof(float));
  for (int64_t b = 0; b * kBlock < queries; ++b) {
    const int64_t count = filled(b, queries);
    const float *q = from.q.block(n, head, b), *g = from.grad.block(n, head, b);
    const float *lse = from.lse.block(n, head, b), *inner = from.inner.block(n, head, b);
    product({q, 1, kBlock}, k, count, dq, weights, false);
    product({g, 1, kBlock}, v, count, dv, slopes, false);
    slopes_of(weights, slopes, count, call.scale, [&](int64_t j, int, vf& l, vf& d) {
      l = vf(lse[j]);
      d = vf(inner[j]);
    });
    product({q, kBlock, 1}, slopes, dq, count, dk, true);
    product({g, kBlock, 1}, weights, dv, count, dval, true);
  }
  if (call.grad_k.data != nullptr) {
    scatter_positions(call.keys, dk, call.grad_k, n, head * dq, dq, first);
  }
  if (call.grad_v.data != nullptr) {
    scatter_positions(call.keys, dval, call.grad_v, n, head * dv, dv, first);
  }
  return true;
}

}  // namespace

Status nonlocal_attention(const TensorView& q, const TensorView& k, const TensorView& v,
                          const Positions& queries, const Positions& keys, int heads, float scale,
                          const TensorView& out, float* lse, int threads) {
  const Side own{queries, q.w}, other{keys, k.w};
  Scratch scratch(gathered_floats(other, k) + gathered_floats(other, v));
  if (scratch.failed()) return Status::out_of_memory;
  float* for_k = scratch.take(gathered_floats(other, k));
  float* for_v = scratch.take(gathered_floats(other, v));
  const Forward call{own,
                     other,
                     q,
                     gather_all(other, k, heads, for_k, threads),
                     gather_all(other, v, heads, for_v, threads),
                     scale * kLog2E,
                     out,
                     lse};
  return each_tile(own, other, q.n, heads, threads, [&](int64_t n, int head, int64_t first) {
    return forward_task(call, n, head, first);
  });
}

Status nonlocal_attention_backward(const TensorView& grad, const TensorView& q, const TensorView& k,
                                   const TensorView& v, const Positions& queries,
                                   const Positions& keys, const TensorView& out, const float* lse,
                                   int heads, float scale, float* inner, const TensorView& grad_q,
                                   const TensorView& grad_k, const TensorView& grad_v,
                                   int threads) {
  const Side own{queries, q.w}, other{keys, k.w};
  const Backward call{own,
                      other,
                      grad,
                      q,
                      k,
                      v,
                      float_planes(lse, q.n, heads, q.h, q.w),
                      float_planes(inner, q.n, heads, q.h, q.w),
                      scale,
                      heads,
                      grad_q,
                      grad_k,
                      grad_v};
  {
    Scratch scratch(gathered_floats(other, k) + gathered_floats(other, v));
    if (scratch.failed()) return Status::out_of_memory;
    float* for_k = scratch.take(gathered_floats(other, k));
    float* for_v = scratch.take(gathered_floats(other, v));
    const Gathered from_k = gather_all(other, k, heads, for_k, threads);
    const Gathered from_v = gather_all(other, v, heads, for_v, threads);
    const Status status =
        each_tile(own, other, q.n, heads, threads, [&](int64_t n, int head, int64_t first) {
          return query_task(call, from_k, from_v, out, n, head, first);
        });
    if (status != Status::ok) return status;
  }
  if (grad_k.data == nullptr && grad_v.data == nullptr) return Status::ok;
  Scratch scratch(gathered_floats(own, q) + gathered_floats(own, grad) +
                  2 * gathered_floats(own, call.lse));
  if (scratch.failed()) return Status::out_of_memory;
  float* for_q = scratch.take(gathered_floats(own, q));
  float* for_grad = scratch.take(gathered_floats(own, grad));
  float* for_lse = scratch.take(gathered_floats(own, call.lse));
  float* for_inner = scratch.take(gathered_floats(own, call.lse));
  const Queries from{gather_all(own, q, heads, for_q, threads),
                     gather_all(own, grad, heads, for_grad, threads),
                     gather_all(own, call.lse, heads, for_lse, threads),
                     gather_all(own, call.inner, heads, for_inner, threads)};
  return each_tile(other, own, q.n, heads, threads, [&](int64_t n, int head, int64_t first) {
    return key_task(call, from, n, head, first);
  });
}

}  // namespace VHARM_ISA
}  // namespace vharm
