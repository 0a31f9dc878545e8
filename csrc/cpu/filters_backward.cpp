// SPDX-License-Identifier: Apache-2.0
// Sums over pixels: global means, stage losses, and every gradient of a filter chain.
//
// Each block of spans writes its own partial sums in double; they are added in block order. So no
// result depends on the number of threads.
#include <stdlib.h>

#include "cpu/filters.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

// Partial sums of every block, zeroed; `slots` doubles each.
class Partials {
 public:
  Partials(int64_t blocks, int slots)
      : data_(static_cast<double*>(calloc(static_cast<size_t>(blocks) * slots, sizeof(double)))),
        slots_(slots) {}
  ~Partials() { free(data_); }
  Partials(const Partials&) = delete;
  Partials& operator=(const Partials&) = delete;
  bool ok() const { return data_ != nullptr; }
  double* block(int64_t i) const { return data_ + i * slots_; }
  void total(int64_t first, int64_t count, double* sums) const {
    for (int s = 0; s < slots_; ++s) sums[s] = 0;
    for (int64_t i = first; i < first + count; ++i) {
      for (int s = 0; s < slots_; ++s) sums[s] += block(i)[s];
    }
  }

 private:
  double* data_;
  int slots_;
};

void copy_padded(const Span& from, int n, Span& to) {
  const size_t bytes = size_t(padded(n)) * sizeof(float);
  memcpy(to.r, from.r, bytes);
  memcpy(to.g, from.g, bytes);
  memcpy(to.b, from.b, bytes);
}

void record_chain(const Stage* stages, int k, int n, Span* records) {
  clamp_span(records[0].r, records[0].g, records[0].b, n);
  for (int i = 0; i < k; ++i) {
    copy_padded(records[i], n, records[i + 1]);
    run_stage(stages[i], records[i + 1].r, records[i + 1].g, records[i + 1].b, n);
  }
}

template <Filter kind>
void pull_stage(const Stage& stage, const Span& input, int n, Span& grad, double* sums) {
  Stage known = stage;
  known.filter = kind;
  vf acc[kCoefficients];
  for (vf& a : acc) a = vf(0.0f);
  for (int i = 0; i < n; i += kWidth) {
    const Rgb<vf> v{load(input.r + i), load(input.g + i), load(input.b + i)};
    const Rgb<vf> g = stage_backward_pixel(
        known, v, Rgb<vf>{load(grad.r + i), load(grad.g + i), load(grad.b + i)}, acc);
    store(grad.r + i, g.r);
    store(grad.g + i, g.g);
    store(grad.b + i, g.b);
  }
  const int used = kind == Filter::hue ? 9 : (kind == Filter::temperature ? 3 : 2);
  for (int c = 0; c < used; ++c) sums[c] += sum(acc[c]);
}

void pull_stage(const Stage& stage, const Span& input, int n, Span& grad, double* sums) {
  switch (stage.filter) {
    case Filter::temperature:
      return pull_stage<Filter::temperature>(stage, input, n, grad, sums);
    case Filter::brightness:
    case Filter::exposure:
      return pull_stage<Filter::brightness>(stage, input, n, grad, sums);
    case Filter::contrast:
      return pull_stage<Filter::contrast>(stage, input, n, grad, sums);
    case Filter::saturation:
      return pull_stage<Filter::saturation>(stage, input, n, grad, sums);
    case Filter::highlight:
      return pull_stage<Filter::highlight>(stage, input, n, grad, sums);
    case Filter::shadow:
      return pull_stage<Filter::shadow>(stage, input, n, grad, sums);
    case Filter::hue:
      return pull_stage<Filter::hue>(stage, input, n, grad, sums);
  }
}

// The first clamp of the chain, to [0, 1], passes no gradient from outside.
void pull_first_clamp(const Span& raw, int n, Span& grad) {
  const float* from[3] = {raw.r, raw.g, raw.b};
  float* to[3] = {grad.r, grad.g, grad.b};
  for (int c = 0; c < 3; ++c) {
    for (int i = 0; i < n; i += kWidth) {
      store(to[c] + i, through_clamp(load(from[c] + i), load(to[c] + i)));
    }
  }
}

// From summed coefficient gradients to arguments and statistics.
void finish(const FilterChain& chain, const ImageView& image, const Partials& partials,
            int64_t blocks_per_image, float* grad_arguments, float* grad_statistics) {
  double sums[kMaxFilters * kCoefficients];
  for (int64_t n = 0; n < image.n; ++n) {
    partials.total(n * blocks_per_image, blocks_per_image, sums);
    for (int i = 0; i < chain.k; ++i) {
      const int64_t at = n * chain.k + i;
      StageGradient gradient;
      memcpy(gradient.c, sums + i * kCoefficients, sizeof gradient.c);
      double x, means[3];
      stage_backward(static_cast<Filter>(chain.filters[i]), chain.arguments[at],
                     chain.statistics + 3 * at, chain.quantized, gradient, &x, means);
      grad_arguments[at] = static_cast<float>(x);
      for (int c = 0; c < 3; ++c) grad_statistics[3 * at + c] = static_cast<float>(means[c]);
    }
  }
}

int64_t offset_of(const ImageView& v, int64_t n, int64_t y, int64_t x) {
  return n * v.sn + y * v.sh + x * v.sw;
}

constexpr int kPassThrough = -2;

// Runs chain and pull-back over every span. `upstream(n, y, x, count, value, i, grad)` adds to
// `grad` what enters at `value`, the output of stage i. Without stages it is called once with
// i == -1; for the share of the raw image that passes the chain by, with i == kPassThrough.
template <class Upstream>
Status backward(const ImageView& image, const FilterChain& chain, const ImageView& grad_image,
                float* grad_arguments, float* grad_statistics, int threads,
                const Upstream& upstream) {
  const Blocks blocks(image.h, image.w);
  const int slots = chain.k * kCoefficients;
  const Partials partials(image.n * blocks.blocks_per_image, slots > 0 ? slots : 1);
  if (!partials.ok()) return Status::out_of_memory;
  parallel_for(image.n * blocks.blocks_per_image, threads, [&](int64_t task) {
    const int64_t n = task / blocks.blocks_per_image;
    Stage stages[kMaxFilters];
    make_stages(chain, n, stages);
    Span raw, grad, records[kMaxFilters + 1];  // records[0]: the clamped image, [i]: stage i-1
    blocks.each(task % blocks.blocks_per_image, [&](int64_t y, int64_t x, int count) {
      load_span(image, offset_of(image, n, y, x), count, raw);
      copy_padded(raw, count, records[0]);
      record_chain(stages, chain.k, count, records);
      memset(&grad, 0, sizeof grad);
      for (int i = chain.k; i > 0; --i) {
        upstream(n, y, x, count, records[i], i - 1, grad);
        pull_stage(stages[i - 1], records[i - 1], count, grad,
                   partials.block(task) + (i - 1) * kCoefficients);
      }
      if (chain.k == 0) upstream(n, y, x, count, records[0], -1, grad);
      if (grad_image.data == nullptr) return;
      pull_first_clamp(raw, count, grad);
      upstream(n, y, x, count, raw, kPassThrough, grad);
      store_span(grad, grad_image, offset_of(grad_image, n, y, x), count);
    });
  });
  finish(chain, image, partials, blocks.blocks_per_image, grad_arguments, grad_statistics);
  return Status::ok;
}

}  // namespace

Status chain_means(const ImageView& view, const FilterChain& chain, float* means, int threads) {
  if (chain.k > kMaxFilters) return Status::unsupported;
  ImageView image = view;
  int64_t h = image.h, w = image.w;
  join_rows(h, w, true, image);
  const Blocks blocks(h, w);
  const Partials partials(image.n * blocks.blocks_per_image, 3);
  if (!partials.ok()) return Status::out_of_memory;
  parallel_for(image.n * blocks.blocks_per_image, threads, [&](int64_t task) {
    const int64_t n = task / blocks.blocks_per_image;
    Stage stages[kMaxFilters];
    make_stages(chain, n, stages);
    Span span;
    double* sums = partials.block(task);
    blocks.each(task % blocks.blocks_per_image, [&](int64_t y, int64_t x, int count) {
      load_span(image, offset_of(image, n, y, x), count, span);
      run_chain(stages, chain.k, span.r, span.g, span.b, count);
      const float* planes[3] = {span.r, span.g, span.b};
      for (int c = 0; c < 3; ++c) {
        vf total(0.0f);
        int i = 0;
        for (; i + kWidth <= count; i += kWidth) total = total + load(planes[c] + i);
        double rest = 0;  // what pads the span is not part of the image
        for (; i < count; ++i) rest += planes[c][i];
        sums[c] += sum(total) + rest;
      }
    });
  });
  for (int64_t n = 0; n < image.n; ++n) {
    double sums[3];
    partials.total(n * blocks.blocks_per_image, blocks.blocks_per_image, sums);
    for (int c = 0; c < 3; ++c) means[3 * n + c] = static_cast<float>(sums[c] / double(h * w));
  }
  return Status::ok;
}

Status chain_means_backward(const float* grad_means, const ImageView& image,
                            const FilterChain& chain, const ImageView& grad_image,
                            float* grad_arguments, float* grad_statistics, int threads) {
  if (chain.k > kMaxFilters) return Status::unsupported;
  const double pixels = double(image.h) * double(image.w);
  return backward(image, chain, grad_image, grad_arguments, grad_statistics, threads,
                  [&](int64_t n, int64_t, int64_t, int count, const Span&, int stage, Span& grad) {
                    if (stage != chain.k - 1) return;
                    for (int i = 0; i < count; ++i) {
                      grad.r[i] = static_cast<float>(grad_means[3 * n] / pixels);
                      grad.g[i] = static_cast<float>(grad_means[3 * n + 1] / pixels);
                      grad.b[i] = static_cast<float>(grad_means[3 * n + 2] / pixels);
                    }
                  });
}

Status filter_chain_backward(const ImageView& grad_out, const ImageView& image,
                             const MaskView& mask, const FilterChain& chain,
                             const ImageView& grad_image, const MaskView& grad_mask,
                             float* grad_arguments, float* grad_statistics, int threads) {
  if (chain.k > kMaxFilters) return Status::unsupported;
  const bool wants_mask = grad_mask.data != nullptr;
  // The mask's gradient needs the raw image too; it is read again rather than kept.
  const auto upstream = [&](int64_t n, int64_t y, int64_t x, int count, const Span& value,
                            int stage, Span& grad) {
    if (stage != chain.k - 1 && stage != kPassThrough) return;
    Span g;
    alignas(64) float m[kSpan], m_grad[kSpan];
    load_span(grad_out, offset_of(grad_out, n, y, x), count, g);
    load_mask(mask, n * mask.sn + y * mask.sh + x * mask.sw, count, m);
    const float* from[3] = {g.r, g.g, g.b};
    float* to[3] = {grad.r, grad.g, grad.b};
    const bool last = stage == chain.k - 1;
    for (int c = 0; c < 3; ++c) {
      for (int i = 0; i < count; i += kWidth) {
        const vf up = load(from[c] + i), share = load(m + i);
        const vf weight = last ? share : vf(1.0f) - share;
        store(to[c] + i, vfma(up, weight, load(to[c] + i)));
      }
    }
    if (!last || !wants_mask) return;
    Span raw;
    load_span(image, offset_of(image, n, y, x), count, raw);
    const float* changed[3] = {value.r, value.g, value.b};
    const float* original[3] = {raw.r, raw.g, raw.b};
    for (int i = 0; i < count; i += kWidth) {
      vf total(0.0f);
      for (int c = 0; c < 3; ++c) {
        total = vfma(load(from[c] + i), load(changed[c] + i) - load(original[c] + i), total);
      }
      // Where the mask is 0 the output is the input itself, whatever the mask's slope.
      store(m_grad + i, select(less(vf(0.0f), load(m + i)), total * vf(mask.strength), vf(0.0f)));
    }
    store_plane(
        m_grad,
        at(grad_mask.data, grad_mask.dtype, n * grad_mask.sn + y * grad_mask.sh + x * grad_mask.sw),
        grad_mask.dtype, grad_mask.sw, count, 1, 0, 1);
  };
  return backward(image, chain, grad_image, grad_arguments, grad_statistics, threads, upstream);
}

namespace {

struct LossTerm {
  vf value, slope;  // of w(d) = sqrt(d^2 + eps) + 10 d^2
};

VHARM_HD LossTerm loss_term(vf d) {
  const vf root = vsqrt(vfma(d, d, vf(kEpsilon)));
  return {vfma(vf(10.0f) * d, d, root), d / root + vf(20.0f) * d};
}

// Sum of the mask over every image, in block order.
Status mask_sums(const ImageView& image, const MaskView& mask, const Blocks& blocks, double* sums,
                 int threads) {
  const Partials partials(image.n * blocks.blocks_per_image, 1);
  if (!partials.ok()) return Status::out_of_memory;
  parallel_for(image.n * blocks.blocks_per_image, threads, [&](int64_t task) {
    const int64_t n = task / blocks.blocks_per_image;
    alignas(64) float m[kSpan];
    blocks.each(task % blocks.blocks_per_image, [&](int64_t y, int64_t x, int count) {
      load_mask(mask, n * mask.sn + y * mask.sh + x * mask.sw, count, m);
      vf total(0.0f);
      for (int i = 0; i < count; i += kWidth) total = total + load(m + i);
      *partials.block(task) += sum(total);
    });
  });
  for (int64_t n = 0; n < image.n; ++n) {
    partials.total(n * blocks.blocks_per_image, blocks.blocks_per_image, sums + n);
  }
  return Status::ok;
}

}  // namespace

Status filter_chain_loss(const ImageView& image, const MaskView& mask, const FilterChain& chain,
                         const ImageView& targets, int64_t target_stride, float* losses,
                         int threads) {
  if (chain.k > kMaxFilters) return Status::unsupported;
  const Blocks blocks(image.h, image.w);
  const Partials partials(image.n * blocks.blocks_per_image, chain.k + 1);
  if (!partials.ok()) return Status::out_of_memory;
  parallel_for(image.n * blocks.blocks_per_image, threads, [&](int64_t task) {
    const int64_t n = task / blocks.blocks_per_image;
    Stage stages[kMaxFilters];
    make_stages(chain, n, stages);
    Span span, target;
    alignas(64) float m[kSpan];
    double* sums = partials.block(task);
    blocks.each(task % blocks.blocks_per_image, [&](int64_t y, int64_t x, int count) {
      const MaskSpan touched = load_mask(mask, n * mask.sn + y * mask.sh + x * mask.sw, count, m);
      if (touched.begin == touched.end) return;
      load_span(image, offset_of(image, n, y, x), count, span);
      clamp_span(span.r, span.g, span.b, count);
      vf weight(0.0f);
      for (int i = 0; i < count; i += kWidth) weight = weight + load(m + i);
      sums[chain.k] += sum(weight);
      for (int s = 0; s < chain.k; ++s) {
        run_stage(stages[s], span.r, span.g, span.b, count);
        load_span(targets, offset_of(targets, n, y, x) + s * target_stride, count, target);
        const float* value[3] = {span.r, span.g, span.b};
        const float* wanted[3] = {target.r, target.g, target.b};
        vf total(0.0f);
        for (int c = 0; c < 3; ++c) {
          for (int i = 0; i < count; i += kWidth) {
            const vf d = load(value[c] + i) - load(wanted[c] + i);
            total = vfma(load(m + i), loss_term(d).value, total);
          }
        }
        sums[s] += sum(total);
      }
    });
  });
  double sums[kMaxFilters + 1];
  for (int64_t n = 0; n < image.n; ++n) {
    partials.total(n * blocks.blocks_per_image, blocks.blocks_per_image, sums);
    for (int s = 0; s < chain.k; ++s) {
      losses[n * chain.k + s] = static_cast<float>(sums[s] / (sums[chain.k] + 1e-6));
    }
  }
  return Status::ok;
}

Status filter_chain_loss_backward(const float* grad_losses, const ImageView& image,
                                  const MaskView& mask, const FilterChain& chain,
                                  const ImageView& targets, int64_t target_stride,
                                  const ImageView& grad_image, float* grad_arguments,
                                  float* grad_statistics, int threads) {
  if (chain.k > kMaxFilters) return Status::unsupported;
  auto* weights = static_cast<double*>(malloc(sizeof(double) * static_cast<size_t>(image.n)));
  if (weights == nullptr) return Status::out_of_memory;
  Status status = mask_sums(image, mask, Blocks(image.h, image.w), weights, threads);
  if (status == Status::ok) {
    const auto upstream = [&](int64_t n, int64_t y, int64_t x, int count, const Span& value,
                              int stage, Span& grad) {
      if (stage < 0) return;
      Span target;
      alignas(64) float m[kSpan];
      const MaskSpan touched = load_mask(mask, n * mask.sn + y * mask.sh + x * mask.sw, count, m);
      if (touched.begin == touched.end) return;
      load_span(targets, offset_of(targets, n, y, x) + stage * target_stride, count, target);
      const vf factor(static_cast<float>(grad_losses[n * chain.k + stage] / (weights[n] + 1e-6)));
      const float* from[3] = {value.r, value.g, value.b};
      const float* wanted[3] = {target.r, target.g, target.b};
      float* to[3] = {grad.r, grad.g, grad.b};
      for (int c = 0; c < 3; ++c) {
        for (int i = 0; i < count; i += kWidth) {
          const vf d = load(from[c] + i) - load(wanted[c] + i);
          store(to[c] + i, vfma(factor * load(m + i), loss_term(d).slope, load(to[c] + i)));
        }
      }
    };
    status = backward(image, chain, grad_image, grad_arguments, grad_statistics, threads, upstream);
  }
  free(weights);
  return status;
}

}  // namespace VHARM_ISA
}  // namespace vharm
