// SPDX-License-Identifier: Apache-2.0
// The gated mean: runs of pixels, all neighbours one after the other. A neighbour's channels are
// read once, for the product, and packed into a tile for the second look.
#include "cpu/apply.hpp"
#include "cpu/attention.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

constexpr int64_t kTile = 16384;  // floats: four tiles of all channels stay in the second cache

struct alignas(64) Line {
  float v[kSpan];
};

struct Run {
  int64_t n, y, x;
  int count;
};

struct Call {
  StackView neighbours, result, grad_neighbours;  // `result` is the output or its gradient
  TensorView own, grad_own, grad_mask;
  MaskView mask;

  int64_t share() const { return neighbours.count / result.count; }
  int64_t mask_offset(const Run& p) const { return p.n * mask.sn + p.y * mask.sh + p.x * mask.sw; }
};

// Pixels of a run.
int step_of(int64_t channels) {
  const int64_t fit = kTile / later(channels, 1) / kWidth * kWidth;
  return static_cast<int>(later(kWidth, earlier(fit, kSpan)));
}

// The tiles of a task. `sum` is a list's so far, or the gradient of own; `grad` that of a list.
struct Tiles {
  Packed own, packed, sum, grad;
};
// A stride that is no power of two, for the caches' sets.
int64_t stride_of(const Call& call) { return step_of(call.own.c) + 16; }
Packed take_tile(Scratch& scratch, const Call& call) {
  return {scratch.take(call.own.c * stride_of(call)), stride_of(call),
          static_cast<int>(call.own.c)};
}

TensorView one_of(const StackView& stack, int64_t k) {
  TensorView f = stack.first;
  if (f.data != nullptr) f.data = at(f.data, f.dtype, k * stack.step);
  return f;
}

VHARM_HD bool is_plain(const TensorView& f, const Run& p) {
  return f.dtype == DType::f32 && f.sw == 1 && p.count % kWidth == 0;
}

// A channel's samples, whole vectors of them: where they lie, or copied into `room`.
const float* samples(const TensorView& f, const Run& p, int64_t c, Line& room) {
  const char* from = at(static_cast<const void*>(f.data), f.dtype, offset_of(f, p.n, c, p.y, p.x));
  if (is_plain(f, p)) return reinterpret_cast<const float*>(from);
  load_plane(from, f.dtype, f.sw, p.count, 1.0f, room.v);
  return room.v;
}

void put(const float* values, const TensorView& f, const Run& p, int64_t c) {
  store_plane(values, at(f.data, f.dtype, offset_of(f, p.n, c, p.y, p.x)), f.dtype, f.sw, p.count,
              1.0f, 0.0f, 1.0f);
}

// Calls body(float*) with room for a channel's samples, which become the tensor's.
template <class Body>
VHARM_HD void fill(const TensorView& f, const Run& p, int64_t c, const Body& body) {
  if (is_plain(f, p)) {
    body(static_cast<float*>(f.data) + offset_of(f, p.n, c, p.y, p.x));
    return;
  }
  Line room;
  body(room.v);
  put(room.v, f, p, c);
}

void pack_scaled(const TensorView& f, const Run& p, float scale, const Packed& to) {
  Line room;
  for (int c = 0; c < to.channels; ++c) {
    const float* from = samples(f, p, c, room);
    float* row = to.at(0, c, 0);
    for (int i = 0; i < p.count; i += kWidth) store(row + i, load(from + i) * vf(scale));
  }
}

void clear(float* line, int count) {
  for (int i = 0; i < count; i += kWidth) store(line + i, vf(0.0f));
}

// ---- forward ------------------------------------------------------------------------------------

// 1 + m (a - 1), and the neighbour packed.
void gate_of(const TensorView& w, const Run& p, const Tiles& t, const Line& m, Line& gate) {
  Line room;
  clear(gate.v, p.count);
  for (int c = 0; c < t.packed.channels; ++c) {
    const float *from = samples(w, p, c, room), *own = t.own.at(0, c, 0);
    float* row = t.packed.at(0, c, 0);
    for (int i = 0; i < p.count; i += kWidth) {
      const vf sample = load(from + i);
      store(row + i, sample);
      store(gate.v + i, vfma(sample, load(own + i), load(gate.v + i)));
    }
  }
  const vf one(1.0f), zero(0.0f);
  for (int i = 0; i < p.count; i += kWidth) {
    const vf weight = load(m.v + i), a = sigmoid(load(gate.v + i));
    // What the samples are outside the mask does not matter.
    store(gate.v + i, select(less(zero, weight), vfma(weight, a - one, one), one));
  }
}

// Outside the mask.
void plain_mean(const Call& call, const Run& p, int64_t l) {
  const int64_t share = call.share();
  const TensorView to = one_of(call.result, l);
  const vf scale(1.0f / static_cast<float>(share));
  Line room, sum;
  for (int64_t c = 0; c < call.own.c; ++c) {
    for (int64_t r = 0; r + 1 < share; ++r) {
      const float* from = samples(one_of(call.neighbours, l * share + r), p, c, room);
      for (int i = 0; i < p.count; i += kWidth) {
        store(sum.v + i, r == 0 ? load(from + i) : load(sum.v + i) + load(from + i));
      }
    }
    const float* from = samples(one_of(call.neighbours, l * share + share - 1), p, c, room);
    fill(to, p, c, [&](float* row) {
      for (int i = 0; i < p.count; i += kWidth) {
        const vf sample = load(from + i);
        store(row + i, (share == 1 ? sample : load(sum.v + i) + sample) * scale);
      }
    });
  }
}

void forward_run(const Call& call, const Run& p, const Tiles& t) {
  Line m, gate;
  const MaskSpan touched = load_mask(call.mask, call.mask_offset(p), p.count, m.v);
  const bool some = touched.begin < touched.end;
  if (some) pack_scaled(call.own, p, 1.0f, t.own);
  const int64_t share = call.share();
  for (int64_t l = 0; l < call.result.count; ++l) {
    if (!some) {
      plain_mean(call, p, l);
      continue;
    }
    const TensorView to = one_of(call.result, l);
    for (int64_t r = 0; r < share; ++r) {
      gate_of(one_of(call.neighbours, l * share + r), p, t, m, gate);
      const bool first = r == 0, last = r + 1 == share;
      const vf scale(last ? 1.0f / static_cast<float>(share) : 1.0f);
      for (int c = 0; c < t.packed.channels; ++c) {
        const float* w = t.packed.at(0, c, 0);
        float* sum = t.sum.at(0, c, 0);
        const auto add = [&](float* row) {
          for (int i = 0; i < p.count; i += kWidth) {
            const vf gated = load(w + i) * load(gate.v + i);
            store(row + i, (first ? gated : load(sum + i) + gated) * scale);
          }
        };
        if (last) {
          fill(to, p, c, add);
        } else {
          add(sum);
        }
      }
    }
  }
}

// ---- backward -----------------------------------------------------------------------------------

// One neighbour: its gate, the slope by its product with own, and what it adds to the mask's slope.
void slopes_of(const TensorView& w, const Run& p, const Tiles& t, const Line& m, Line& gate,
               Line& slope, Line& to_mask) {
  Line room;
  clear(gate.v, p.count);
  clear(slope.v, p.count);
  for (int c = 0; c < t.packed.channels; ++c) {
    const float *from = samples(w, p, c, room), *own = t.own.at(0, c, 0), *g = t.grad.at(0, c, 0);
    float* row = t.packed.at(0, c, 0);
    for (int i = 0; i < p.count; i += kWidth) {
      const vf sample = load(from + i);
      store(row + i, sample);
      store(gate.v + i, vfma(sample, load(own + i), load(gate.v + i)));
      store(slope.v + i, vfma(sample, load(g + i), load(slope.v + i)));
    }
  }
  const vf one(1.0f), zero(0.0f);
  for (int i = 0; i < p.count; i += kWidth) {
    const vf weight = load(m.v + i), a = sigmoid(load(gate.v + i)), product = load(slope.v + i);
    const vmask inside = less(zero, weight);
    store(to_mask.v + i, vfma(product, a - one, load(to_mask.v + i)));
    store(gate.v + i, select(inside, vfma(weight, a - one, one), one));
    store(slope.v + i, select(inside, weight * product * a * (one - a), zero));
  }
}

// What lies outside the mask has no part in the products: zero times NaN must not get in.
void spread_slopes(const Call& call, int64_t k, const Run& p, const Tiles& t, const Line& m,
                   const Line& gate, const Line& slope) {
  const TensorView to = one_of(call.grad_neighbours, k);
  const vf zero(0.0f);
  for (int c = 0; c < t.packed.channels; ++c) {
    if (to.data != nullptr) {
      const float *own = t.own.at(0, c, 0), *g = t.grad.at(0, c, 0);
      fill(to, p, c, [&](float* row) {
        for (int i = 0; i < p.count; i += kWidth) {
          const vf part = load(slope.v + i) * load(own + i);
          store(row + i,
                vfma(load(g + i), load(gate.v + i), select(less(zero, load(m.v + i)), part, zero)));
        }
      });
    }
    if (call.grad_own.data != nullptr) {
      const float* w = t.packed.at(0, c, 0);
      float* sum = t.sum.at(0, c, 0);
      for (int i = 0; i < p.count; i += kWidth) {
        const vf part = select(less(zero, load(m.v + i)), load(slope.v + i) * load(w + i), zero);
        store(sum + i, k == 0 ? part : load(sum + i) + part);
      }
    }
  }
}

void backward_run(const Call& call, const Run& p, const Tiles& t) {
  Line m, gate, slope, to_mask;
  const MaskSpan touched = load_mask(call.mask, call.mask_offset(p), p.count, m.v);
  const bool some = touched.begin < touched.end || call.grad_mask.data != nullptr;
  const int64_t share = call.share();
  if (some) pack_scaled(call.own, p, 1.0f, t.own);
  clear(to_mask.v, p.count);
  for (int64_t k = 0; k < call.neighbours.count; ++k) {
    if (k % share == 0) {
      pack_scaled(one_of(call.result, k / share), p, 1.0f / static_cast<float>(share), t.grad);
    }
    if (some) {
      slopes_of(one_of(call.neighbours, k), p, t, m, gate, slope, to_mask);
      spread_slopes(call, k, p, t, m, gate, slope);
    } else if (call.grad_neighbours.first.data != nullptr) {
      const TensorView to = one_of(call.grad_neighbours, k);
      for (int c = 0; c < t.grad.channels; ++c) put(t.grad.at(0, c, 0), to, p, c);
    }
  }
  if (!some) clear(slope.v, p.count);
  for (int c = 0; call.grad_own.data != nullptr && c < t.sum.channels; ++c) {
    put(some ? t.sum.at(0, c, 0) : slope.v, call.grad_own, p, c);
  }
  if (call.grad_mask.data == nullptr) return;
  for (int i = 0; i < p.count; ++i) {
    to_mask.v[i] *= passes(call.mask, call.mask_offset(p) + i * call.mask.sw);
  }
  put(to_mask.v, call.grad_mask, p, 0);
}

// Calls body(run, tiles) for every run of an image's pixels.
template <class Body>
Status each_run(const Call& call, int threads, const Body& body) {
  const Blocks blocks(call.own.h, call.own.w);
  const int step = step_of(call.own.c);
  int failed = 0;
  parallel_for(call.own.n * blocks.blocks_per_image, threads, [&](int64_t task) {
    Scratch scratch(4 * (call.own.c * stride_of(call)));
    if (scratch.failed()) {
      __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
      return;
    }
    Tiles t;
    t.own = take_tile(scratch, call);
    t.packed = take_tile(scratch, call);
    t.sum = take_tile(scratch, call);
    t.grad = take_tile(scratch, call);
    const int64_t n = task / blocks.blocks_per_image;
    blocks.each(task % blocks.blocks_per_image, [&](int64_t y, int64_t x, int count) {
      for (int done = 0; done < count; done += step) {
        body(Run{n, y, x + done, count - done < step ? count - done : step}, t);
      }
    });
  });
  return failed ? Status::out_of_memory : Status::ok;
}

bool fits(const Call& call) {
  return call.result.count > 0 && call.neighbours.count > 0 &&
         call.neighbours.count % call.result.count == 0;
}

}  // namespace

Status gated_mean(const StackView& neighbours, const TensorView& own, const MaskView& mask,
                  const StackView& out, int threads) {
  Call call{neighbours, out, {}, own, {}, {}, mask};
  if (!fits(call)) return Status::unsupported;
  int64_t h = own.h, w = own.w;
  join_rows(h, w, joins(mask, w), call.neighbours.first, call.own, call.result.first);
  return each_run(call, threads, [&](const Run& p, const Tiles& t) { forward_run(call, p, t); });
}

Status gated_mean_backward(const StackView& grad, const StackView& neighbours,
                           const TensorView& own, const MaskView& mask,
                           const StackView& grad_neighbours, const TensorView& grad_own,
                           const TensorView& grad_mask, int threads) {
  Call call{neighbours, grad, grad_neighbours, own, grad_own, grad_mask, mask};
  if (!fits(call)) return Status::unsupported;
  int64_t h = own.h, w = own.w;
  join_rows(h, w, joins(mask, w), call.neighbours.first, call.own, call.result.first,
            call.grad_neighbours.first, call.grad_own, call.grad_mask);
  return each_run(call, threads, [&](const Run& p, const Tiles& t) { backward_run(call, p, t); });
}

}  // namespace VHARM_ISA
}  // namespace vharm
