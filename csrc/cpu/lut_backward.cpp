// SPDX-License-Identifier: Apache-2.0
// Gradients of tables, and splatting: sums over pixels that scatter into nodes.
//
// The pixels of a table are cut into a number of parts that depends on sizes alone. Each part has a
// table of doubles of its own; they are added in order. So no result depends on the threads.
#include <stdlib.h>

#include "cpu/lut.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

int64_t nodes_of(int size) { return int64_t(size) * size * size; }

// How many parts the pixels of one table are cut into: a part costs a table to clear and to add.
int64_t parts_of(int64_t pixels, int64_t table_bytes) {
  int64_t parts = pixels / 65536 + 1;
  const int64_t most = table_bytes > (int64_t(8) << 20) ? 2 : 8;
  return parts < most ? parts : most;
}

// Tables of doubles, one for each part, cleared.
class Tables {
 public:
  Tables(int64_t parts, int64_t values)
      : data_(static_cast<double*>(calloc(size_t(parts * values), sizeof(double)))),
        parts_(parts),
        values_(values) {}
  ~Tables() { free(data_); }
  Tables(const Tables&) = delete;
  Tables& operator=(const Tables&) = delete;
  bool ok() const { return data_ != nullptr; }
  double* part(int64_t i) const { return data_ + i * values_; }
  void clear() { memset(data_, 0, size_t(parts_ * values_) * sizeof(double)); }
  void total(float* out, int threads) const {
    const int64_t step = 16384;
    parallel_for((values_ + step - 1) / step, threads, [&](int64_t task) {
      const int64_t end = (task + 1) * step < values_ ? (task + 1) * step : values_;
      for (int64_t i = task * step; i < end; ++i) {
        double s = 0;
        for (int64_t p = 0; p < parts_; ++p) s += part(p)[i];
        out[i] = static_cast<float>(s);
      }
    });
  }

 private:
  double* data_;
  int64_t parts_, values_;
};

int64_t offset_of(const ImageView& v, int64_t n, int64_t y, int64_t x) {
  return n * v.sn + y * v.sh + x * v.sw;
}
int64_t offset_of(const MaskView& v, int64_t n, int64_t y, int64_t x) {
  return n * v.sn + y * v.sh + x * v.sw;
}

// What a vector of pixels adds to nodes, laid out for a scalar loop.
struct alignas(64) Scatter {
  int32_t index[8][kWidth];
  float weight[8][kWidth];
  float value[3][kWidth];
};

VHARM_HD void keep_nodes(const Nodes& nodes, int count, Scatter& s) {
  for (int k = 0; k < count; ++k) {
    store(s.index[k], to_index(nodes.index[k]));
    store(s.weight[k], nodes.weight[k]);
  }
}

void scatter3(const Scatter& s, int count, int lanes, double* table) {
  for (int i = 0; i < lanes; ++i) {
    const double v[3] = {s.value[0][i], s.value[1][i], s.value[2][i]};
    if (v[0] == 0 && v[1] == 0 && v[2] == 0) continue;
    for (int k = 0; k < count; ++k) {
      double* to = table + 3 * int64_t(s.index[k][i]);
      const double w = s.weight[k][i];
      for (int c = 0; c < 3; ++c) to[c] += w * v[c];
    }
  }
}

// ---- apply_lut's gradients ----------------------------------------------------------------------

VHARM_HD vf dot(const Colour& a, const Colour& b) {
  return vfma(a.v[0], b.v[0], vfma(a.v[1], b.v[1], a.v[2] * b.v[2]));
}

// The clamp to [0, 1] passes gradient inside and at equality.
VHARM_HD vf through(vf v, vf grad) {
  return select(both(less_equal(vf(0.0f), v), less_equal(v, vf(1.0f))), grad, vf(0.0f));
}

struct Slopes {
  Colour value;  // the table's colour
  vf r, g, b;    // slope of grad . value by each channel, per cell width
};

VHARM_HD Slopes tetrahedral_slopes(const float* table, const LutCell<vf>& cell,
                                   const LutPath<vf>& path, const Colour& grad, int size,
                                   Nodes& nodes) {
  tetrahedral_nodes(cell, path, size, nodes);
  Slopes s;
  vf along[4];
  for (int k = 0; k < 4; ++k) {
    const Colour c = lut_colour(table, nodes.index[k]);
    if (k == 0) {
      s.value = scaled(nodes.weight[0], c);
    } else {
      add_scaled(nodes.weight[k], c, s.value);
    }
    along[k] = dot(grad, c);
  }
  const vf first = along[1] - along[0], second = along[2] - along[1], third = along[3] - along[2];
  const auto rg = less_equal(cell.g, cell.r), rb = less_equal(cell.b, cell.r);
  const auto gb = less_equal(cell.b, cell.g);
  const vf zero(0.0f), one(1.0f);
  // Ranks: how many channels go before this one.
  const vf r_rank = select(rg, zero, one) + select(rb, zero, one);
  const vf g_rank = select(rg, one, zero) + select(gb, zero, one);
  const vf b_rank = select(rb, one, zero) + select(gb, one, zero);
  const auto pick = [&](vf rank) {
    return select(less(rank, vf(0.5f)), first, select(less(rank, vf(1.5f)), second, third));
  };
  s.r = pick(r_rank);
  s.g = pick(g_rank);
  s.b = pick(b_rank);
  return s;
}

VHARM_HD Slopes trilinear_slopes(const float* table, const LutCell<vf>& cell, const Colour& grad,
                                 int size, Nodes& nodes) {
  trilinear_nodes(cell, size, nodes);
  Slopes s;
  vf along[8];
  for (int k = 0; k < 8; ++k) {
    const Colour c = lut_colour(table, nodes.index[k]);
    if (k == 0) {
      s.value = scaled(nodes.weight[0], c);
    } else {
      add_scaled(nodes.weight[k], c, s.value);
    }
    along[k] = dot(grad, c);
  }
  const auto mix = [](vf a, vf b, vf t) { return vfma(t, b - a, a); };
  const auto slope = [&](int bit, vf u, int bit_u, vf v, int bit_v) {
    const auto edge = [&](int k) { return along[k | bit] - along[k]; };
    return mix(mix(edge(0), edge(bit_u), u), mix(edge(bit_v), edge(bit_u | bit_v), u), v);
  };
  s.r = slope(4, cell.g, 2, cell.b, 1);
  s.g = slope(2, cell.r, 4, cell.b, 1);
  s.b = slope(1, cell.r, 4, cell.g, 2);
  return s;
}

struct Backward {
  const ImageView &grad, &image;
  const MaskView& mask;
  const LutView& lut;
  const ImageView& grad_image;
  const MaskView& grad_mask;

  template <Interpolation kind>
  void span(int64_t n, int64_t y, int64_t x, int count, double* table) const;
};

void store_mask_gradient(const MaskView& to, int64_t offset, int n, const float* values) {
  store_plane(values, at(to.data, to.dtype, offset), to.dtype, to.sw, n, 1.0f, 0.0f, 1.0f);
}

template <Interpolation kind>
void Backward::span(int64_t n, int64_t y, int64_t x, int count, double* table) const {
  Span v, g;
  alignas(64) float m[kSpan], gm[kSpan];
  const MaskSpan touched = load_mask(mask, offset_of(mask, n, y, x), count, m);
  const bool wants_image = grad_image.data != nullptr, wants_mask = grad_mask.data != nullptr;
  if (touched.begin == touched.end && !wants_image && !wants_mask) return;
  load_span(image, offset_of(image, n, y, x), count, v);
  load_span(grad, offset_of(grad, n, y, x), count, g);
  const float* nodes_at = lut_of(lut, n);
  const vf zero(0.0f), cells(float(lut.size - 1)), strength(mask.strength);
  Scatter scatter;
  for (int i = 0; i < count; i += kWidth) {
    const vf mi = load(m + i);
    const Colour grad_out{{load(g.r + i), load(g.g + i), load(g.b + i)}};
    const Colour colour{{load(v.r + i), load(v.g + i), load(v.b + i)}};
    if (!any(less(zero, mi))) {
      store(gm + i, zero);
      continue;  // the image's gradient is the output's, as loaded
    }
    const LutCell<vf> cell = lut_cell(colour.v[0], colour.v[1], colour.v[2], lut.size);
    Nodes nodes;
    const int corners = kind == Interpolation::tetrahedral ? 4 : 8;
    const Slopes s = kind == Interpolation::tetrahedral
                         ? tetrahedral_slopes(nodes_at, cell, lut_path(cell, lut.size), grad_out,
                                              lut.size, nodes)
                         : trilinear_slopes(nodes_at, cell, grad_out, lut.size, nodes);
    const auto inside = less(zero, mi);
    store(gm + i,
          select(inside, strength * (dot(grad_out, s.value) - dot(grad_out, colour)), zero));
    if (table != nullptr) {
      keep_nodes(nodes, corners, scatter);
      for (int c = 0; c < 3; ++c) {
        store(scatter.value[c], select(inside, mi * grad_out.v[c], zero));
      }
      scatter3(scatter, corners, count - i < kWidth ? count - i : kWidth, table);
    }
    const vf slopes[3] = {s.r, s.g, s.b};
    float* to[3] = {g.r + i, g.g + i, g.b + i};
    for (int c = 0; c < 3; ++c) {
      const vf through_table = mi * cells * through(colour.v[c], slopes[c]);
      const vf whole = vfma(vf(1.0f) - mi, grad_out.v[c], through_table);
      store(to[c], select(inside, whole, grad_out.v[c]));
    }
  }
  if (wants_image) store_span(g, grad_image, offset_of(grad_image, n, y, x), count);
  if (wants_mask) store_mask_gradient(grad_mask, offset_of(grad_mask, n, y, x), count, gm);
}

void clear_tables(const LutView& lut, float* grad_lut) {
  memset(grad_lut, 0, size_t(lut.batch * nodes_of(lut.size) * 3) * sizeof(float));
}

}  // namespace

Status apply_lut_backward(const ImageView& grad, const ImageView& image, const MaskView& mask,
                          const LutView& lut, Interpolation interpolation,
                          const ImageView& grad_image, const MaskView& grad_mask, float* grad_lut,
                          int threads) {
  if (lut.size < kMinLutSize || lut.size > kMaxLutSize) return Status::unsupported;
  const Backward pass{grad, image, mask, lut, grad_image, grad_mask};
  const Blocks blocks(image.h, image.w);
  const bool trilinear = interpolation == Interpolation::trilinear;
  const auto run = [&](int64_t n, int64_t block, double* table) {
    blocks.each(block, [&](int64_t y, int64_t x, int count) {
      if (trilinear) {
        pass.span<Interpolation::trilinear>(n, y, x, count, table);
      } else {
        pass.span<Interpolation::tetrahedral>(n, y, x, count, table);
      }
    });
  };
  if (grad_lut == nullptr) {
    parallel_for(image.n * blocks.blocks_per_image, threads, [&](int64_t task) {
      run(task / blocks.blocks_per_image, task % blocks.blocks_per_image, nullptr);
    });
    return Status::ok;
  }
  const int64_t values = nodes_of(lut.size) * 3;
  const int64_t images = lut.batch > 1 ? 1 : image.n;  // per table
  const int64_t work = images * blocks.blocks_per_image;
  if (work == 0) {
    clear_tables(lut, grad_lut);
    return Status::ok;
  }
  const int64_t parts = parts_of(images * image.h * image.w, values * 8);
  Tables tables(parts, values);
  if (!tables.ok()) return Status::out_of_memory;
  for (int64_t t = 0; t < lut.batch; ++t) {
    if (t > 0) tables.clear();
    parallel_for(parts, threads, [&](int64_t part) {
      for (int64_t task = work * part / parts; task < work * (part + 1) / parts; ++task) {
        run(t + task / blocks.blocks_per_image, task % blocks.blocks_per_image, tables.part(part));
      }
    });
    tables.total(grad_lut + t * values, threads);
  }
  return Status::ok;
}

// ---- splatting ----------------------------------------------------------------------------------

namespace {

void scatter4(const Scatter& s, const float* mask, int lanes, double* table) {
  for (int i = 0; i < lanes; ++i) {
    if (!(mask[i] > 0)) continue;
    const double value[4] = {s.value[0][i], s.value[1][i], s.value[2][i], 1.0};
    for (int k = 0; k < 8; ++k) {
      double* to = table + 4 * int64_t(s.index[k][i]);
      const double w = double(s.weight[k][i]) * mask[i];
      for (int c = 0; c < 4; ++c) to[c] += w * value[c];
    }
  }
}

void splat_span(const Span& v, const Span& target, const float* m, int count, int size, bool offset,
                double* table) {
  Scatter scatter;
  alignas(64) float weight[kWidth];
  for (int i = 0; i < count; i += kWidth) {
    const vf mi = load(m + i);
    if (!any(less(vf(0.0f), mi))) continue;
    const Colour from{{load(v.r + i), load(v.g + i), load(v.b + i)}};
    const Colour to{{load(target.r + i), load(target.g + i), load(target.b + i)}};
    const LutCell<vf> cell = lut_cell(from.v[0], from.v[1], from.v[2], size);
    Nodes nodes;
    trilinear_nodes(cell, size, nodes);
    keep_nodes(nodes, 8, scatter);
    vf sound = cell.r + cell.g + cell.b;  // ends as NaN if the pixel is to be left out
    for (int c = 0; c < 3; ++c) {
      const vf value = offset ? to.v[c] - from.v[c] : to.v[c];
      store(scatter.value[c], value);
      sound = vfma(value, vf(0.0f), sound);
    }
    store(weight, select(less_equal(vf(0.0f), sound), mi, vf(0.0f)));
    scatter4(scatter, weight, count - i < kWidth ? count - i : kWidth, table);
  }
}

}  // namespace

Status lut_splat(const ImageView& source, const ImageView& target, const MaskView& mask, int size,
                 bool offset, float* sums, int threads) {
  if (size < kMinLutSize || size > kMaxLutSize) return Status::unsupported;
  const Blocks blocks(source.h, source.w);
  const int64_t values = nodes_of(size) * 4, work = blocks.blocks_per_image;
  if (work == 0) {
    memset(sums, 0, size_t(source.n * values) * sizeof(float));
    return Status::ok;
  }
  const int64_t parts = parts_of(source.h * source.w, values * 8);
  Tables tables(parts, values);
  if (!tables.ok()) return Status::out_of_memory;
  for (int64_t n = 0; n < source.n; ++n) {
    if (n > 0) tables.clear();
    parallel_for(parts, threads, [&](int64_t part) {
      Span v, wanted;
      alignas(64) float m[kSpan];
      for (int64_t block = work * part / parts; block < work * (part + 1) / parts; ++block) {
        blocks.each(block, [&](int64_t y, int64_t x, int count) {
          const MaskSpan touched = load_mask(mask, offset_of(mask, n, y, x), count, m);
          if (touched.begin == touched.end) return;
          load_span(source, offset_of(source, n, y, x), count, v);
          load_span(target, offset_of(target, n, y, x), count, wanted);
          splat_span(v, wanted, m, count, size, offset, tables.part(part));
        });
      }
    });
    tables.total(sums + n * values, threads);
  }
  return Status::ok;
}

}  // namespace VHARM_ISA
}  // namespace vharm
