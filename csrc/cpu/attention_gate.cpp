// SPDX-License-Identifier: Apache-2.0
// The similarity gate: one pass over spans of a row, channel by channel.
#include "cpu/apply.hpp"
#include "cpu/attention.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

void load_channel(const TensorView& f, int64_t n, int64_t c, int64_t y, int64_t x, int count,
                  float* out) {
  load_plane(at(static_cast<const void*>(f.data), f.dtype, offset_of(f, n, c, y, x)), f.dtype, f.sw,
             count, 1.0f, out);
}
void store_channel(const float* values, const TensorView& f, int64_t n, int64_t c, int64_t y,
                   int64_t x, int count) {
  store_plane(values, at(f.data, f.dtype, offset_of(f, n, c, y, x)), f.dtype, f.sw, count, 1.0f,
              0.0f, 1.0f);
}

struct alignas(64) Line {
  float v[kSpan];
};

// The gate's weight, from the embeddings' product.
void agreement(const TensorView& theta, const TensorView& phi, int64_t n, int64_t y, int64_t x,
               int count, float* out) {
  Line a, b;
  for (int i = 0; i < padded(count); ++i) out[i] = 0;
  for (int64_t c = 0; c < theta.c; ++c) {
    load_channel(theta, n, c, y, x, count, a.v);
    load_channel(phi, n, c, y, x, count, b.v);
    for (int i = 0; i < count; i += kWidth) {
      store(out + i, vfma(load(a.v + i), load(b.v + i), load(out + i)));
    }
  }
  for (int i = 0; i < count; i += kWidth) store(out + i, sigmoid(load(out + i)));
}

}  // namespace

Status similarity_gate(const TensorView& theta, const TensorView& phi, const TensorView& feature,
                       const MaskView& mask, const TensorView& out, int threads) {
  const Blocks blocks(feature.h, feature.w);
  parallel_for(feature.n * blocks.blocks_per_image, threads, [&](int64_t task) {
    const int64_t n = task / blocks.blocks_per_image;
    Line gate, m, f;
    blocks.each(task % blocks.blocks_per_image, [&](int64_t y, int64_t x, int count) {
      const MaskSpan touched = load_mask(mask, n * mask.sn + y * mask.sh + x * mask.sw, count, m.v);
      const bool some = touched.begin < touched.end;
      if (some) agreement(theta, phi, n, y, x, count, gate.v);
      const vf one(1.0f), zero(0.0f);
      for (int i = 0; some && i < count; i += kWidth) {
        const vf weight = load(m.v + i), rest = vfma(weight, load(gate.v + i) - one, one);
        // What the embeddings hold outside the mask does not matter.
        store(gate.v + i, select(less(zero, weight), rest, one));
      }
      for (int64_t c = 0; c < feature.c; ++c) {
        load_channel(feature, n, c, y, x, count, f.v);
        for (int i = 0; some && i < count; i += kWidth) {
          store(f.v + i, load(f.v + i) * load(gate.v + i));
        }
        store_channel(f.v, out, n, c, y, x, count);
      }
    });
  });
  return Status::ok;
}

Status similarity_gate_backward(const TensorView& grad, const TensorView& theta,
                                const TensorView& phi, const TensorView& feature,
                                const MaskView& mask, const TensorView& grad_theta,
                                const TensorView& grad_phi, const TensorView& grad_feature,
                                const TensorView& grad_mask, int threads) {
  const Blocks blocks(feature.h, feature.w);
  parallel_for(feature.n * blocks.blocks_per_image, threads, [&](int64_t task) {
    const int64_t n = task / blocks.blocks_per_image;
    Line gate, m, product, f, g;
    blocks.each(task % blocks.blocks_per_image, [&](int64_t y, int64_t x, int count) {
      const vf one(1.0f), zero(0.0f);
      const int64_t mask_offset = n * mask.sn + y * mask.sh + x * mask.sw;
      load_mask(mask, mask_offset, count, m.v);
      agreement(theta, phi, n, y, x, count, gate.v);
      for (int i = 0; i < count; i += kWidth) store(product.v + i, zero);
      for (int64_t c = 0; c < feature.c; ++c) {
        load_channel(feature, n, c, y, x, count, f.v);
        load_channel(grad, n, c, y, x, count, g.v);
        for (int i = 0; i < count; i += kWidth) {
          const vf gi = load(g.v + i), mi = load(m.v + i);
          store(product.v + i, vfma(gi, load(f.v + i), load(product.v + i)));
          const vf rest = vfma(mi, load(gate.v + i) - one, one);
          store(f.v + i, gi * select(less(zero, mi), rest, one));
        }
        if (grad_feature.data != nullptr) store_channel(f.v, grad_feature, n, c, y, x, count);
      }
      if (grad_mask.data != nullptr) {
        for (int i = 0; i < count; i += kWidth) {
          store(f.v + i, load(product.v + i) * (load(gate.v + i) - one));
        }
        for (int i = 0; i < count; ++i) f.v[i] *= passes(mask, mask_offset + i * mask.sw);
        store_channel(f.v, grad_mask, n, 0, y, x, count);
      }
      // Slope by the embeddings' product.
      for (int i = 0; i < count; i += kWidth) {
        const vf a = load(gate.v + i), mi = load(m.v + i);
        const vf slope = mi * load(product.v + i) * a * (one - a);
        store(product.v + i, select(less(zero, mi), slope, zero));
      }
      for (int64_t c = 0; c < theta.c; ++c) {
        for (int side = 0; side < 2; ++side) {
          const TensorView &to = side ? grad_phi : grad_theta, &other = side ? theta : phi;
          if (to.data == nullptr) continue;
          load_channel(other, n, c, y, x, count, f.v);
          for (int i = 0; i < count; i += kWidth) {
            store(f.v + i, load(f.v + i) * load(product.v + i));
          }
          store_channel(f.v, to, n, c, y, x, count);
        }
      }
    });
  });
  return Status::ok;
}

}  // namespace VHARM_ISA
}  // namespace vharm
