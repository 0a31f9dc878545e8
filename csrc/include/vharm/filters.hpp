// SPDX-License-Identifier: Apache-2.0
// White-box filters (Ke et al., Harmonizer, ECCV 2022): the per-pixel mathematics, once for every
// device, and the launchers.
//
// A filter's argument and the global means it needs are folded into a Stage of coefficients, once
// per image. The per-pixel functions know only coefficients, and the backward pass accumulates
// gradients of coefficients; stage_backward() carries those to the argument and the means.
#pragma once

#include "vharm/scalar.hpp"
#include "vharm/types.hpp"

namespace vharm {

// The codes are part of the interface (vharm/ops/filters.py: FILTERS).
enum class Filter : int {
  temperature = 0,
  brightness,
  contrast,
  saturation,
  highlight,
  shadow,
  exposure,
  hue
};

constexpr int kMaxFilters = 16;
constexpr int kCoefficients = 9;
constexpr float kEpsilon = 1e-6f;
constexpr float kTiny = 1e-9f;

// temperature: c[0..2] gain per channel. brightness, exposure: c[0] gain. contrast: c[0] gain,
// c[1] mean. saturation: c[0] argument. highlight, shadow: c[0] exponent. hue: c[0..8] matrix.
struct Stage {
  Filter filter;
  float c[kCoefficients];
};

// Gradients of a stage's coefficients, summed over pixels. Hue keeps the gradient of its nine
// matrix entries; everything else uses the first three at most.
struct StageGradient {
  double c[kCoefficients];
};

template <class F>
struct Rgb {
  F r, g, b;
};

// Argument order matters: a NaN must come through.
template <class F>
VHARM_HD F clamp01(F v) {
  return vmax(F(0.0f), vmin(F(1.0f), v));
}

template <class F>
VHARM_HD F pow_positive(F base, F exponent) {
  return vexp2(exponent * vlog2(base));
}

// ---- from arguments and means to coefficients --------------------------------------------------

VHARM_HD void hue_matrix(float x, float* m, float* derivative) {
  constexpr float luma[3] = {0.2126f, 0.7152f, 0.0722f};
  constexpr double pi = 3.14159265358979323846;
  const double c = cos(pi * x), s = sin(pi * x), third = 1.0 / 3.0, k = 1.0 / sqrt(3.0);
  // R rotates about the grey axis; its derivative by the angle beside it.
  const double r[9] = {c + (1 - c) * third,     (1 - c) * third - s * k, (1 - c) * third + s * k,
                       (1 - c) * third + s * k, c + (1 - c) * third,     (1 - c) * third - s * k,
                       (1 - c) * third - s * k, (1 - c) * third + s * k, c + (1 - c) * third};
  const double d[9] = {-s + s * third,    s * third - c * k, s * third + c * k,
                       s * third + c * k, -s + s * third,    s * third - c * k,
                       s * third - c * k, s * third + c * k, -s + s * third};
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      double value = 0, slope = 0;  // (P R P)_ij with P = I - 1 w^T
      for (int a = 0; a < 3; ++a) {
        for (int b = 0; b < 3; ++b) {
          const double p = (i == a ? 1.0 : 0.0) - luma[a], q = (b == j ? 1.0 : 0.0) - luma[j];
          value += p * r[3 * a + b] * q;
          slope += p * d[3 * a + b] * q;
        }
      }
      m[3 * i + j] = static_cast<float>(value + luma[j]);
      derivative[3 * i + j] = static_cast<float>(slope * pi);
    }
  }
}

VHARM_HD Stage make_stage(Filter filter, float x, const float* means, bool quantized) {
  Stage stage{filter, {0, 0, 0, 0, 0, 0, 0, 0, 0}};
  const double eps = 1e-6;
  switch (filter) {
    case Filter::temperature: {
      const double amount = x < 0 ? -x : x;
      const double shift[3] = {x < 0 ? amount : 0, amount / 2, x > 0 ? amount : 0};
      const double grey = (double(means[0]) + means[1] + means[2]) / 3;
      const double shifted = grey + (shift[0] + shift[1] + shift[2]) / 3;
      for (int c = 0; c < 3; ++c) {
        stage.c[c] =
            static_cast<float>(shifted / (means[c] + shift[c] + eps) + 1 - grey / (means[c] + eps));
      }
      break;
    }
    case Filter::brightness:
      stage.c[0] = static_cast<float>(x >= 0 ? 1 / ((1.0 - x) + eps) : 1.0 + x);
      break;
    case Filter::contrast: {
      double gain = x;
      if (x > 0) {
        gain = quantized ? 255 / (256 - floor(255.0f * x)) - 1 : 255.0 * x / (256 - 255.0 * x);
      }
      stage.c[0] = static_cast<float>(gain);
      stage.c[1] = static_cast<float>((double(means[0]) + means[1] + means[2]) / 3);
      break;
    }
    case Filter::saturation:
      stage.c[0] = x;
      break;
    case Filter::highlight:
      stage.c[0] = 1 + x;
      break;
    case Filter::shadow:
      stage.c[0] = 1 - x;
      break;
    case Filter::exposure:
      stage.c[0] = static_cast<float>(exp2(2.0 * x));
      break;
    case Filter::hue: {
      float derivative[9];
      hue_matrix(x, stage.c, derivative);
      break;
    }
  }
  return stage;
}

// Carries the coefficients' gradients to the argument and to the three means.
VHARM_HD void stage_backward(Filter filter, float x, const float* means, bool quantized,
                             const StageGradient& grad, double* grad_x, double* grad_means) {
  const double eps = 1e-6;
  *grad_x = 0;
  grad_means[0] = grad_means[1] = grad_means[2] = 0;
  switch (filter) {
    case Filter::temperature: {
      const double amount = x < 0 ? -x : x, sign = x < 0 ? -1 : (x > 0 ? 1 : 0);
      const double shift[3] = {x < 0 ? amount : 0, amount / 2, x > 0 ? amount : 0};
      const double slope[3] = {x < 0 ? -1.0 : 0.0, sign / 2, x > 0 ? 1.0 : 0.0};
      const double grey = (double(means[0]) + means[1] + means[2]) / 3;
      const double shifted = grey + (shift[0] + shift[1] + shift[2]) / 3;
      const double shifted_slope = (slope[0] + slope[1] + slope[2]) / 3;
      for (int c = 0; c < 3; ++c) {
        const double below = means[c] + shift[c] + eps, plain = means[c] + eps, g = grad.c[c];
        *grad_x += g * (shifted_slope / below - shifted * slope[c] / (below * below));
        grad_means[c] += g * (grey / (plain * plain) - shifted / (below * below));
        for (int j = 0; j < 3; ++j) grad_means[j] += g * (1 / below - 1 / plain) / 3;
      }
      break;
    }
    case Filter::brightness: {
      const double d = (1.0 - x) + eps;
      *grad_x = grad.c[0] * (x >= 0 ? 1 / (d * d) : 1);
      break;
    }
    case Filter::contrast: {
      const double d = 256 - 255.0 * x;
      *grad_x = grad.c[0] * (x > 0 ? (quantized ? 0 : 255.0 * 256 / (d * d)) : 1);
      for (int c = 0; c < 3; ++c) grad_means[c] = grad.c[1] / 3;
      break;
    }
    case Filter::saturation:
      *grad_x = grad.c[0];
      break;
    case Filter::highlight:
      *grad_x = grad.c[0];
      break;
    case Filter::shadow:
      *grad_x = -grad.c[0];
      break;
    case Filter::exposure:
      *grad_x = grad.c[0] * 2 * 0.69314718055994530942 * exp2(2.0 * x);
      break;
    case Filter::hue: {
      float matrix[9], derivative[9];
      hue_matrix(x, matrix, derivative);
      for (int i = 0; i < 9; ++i) *grad_x += grad.c[i] * derivative[i];
      break;
    }
  }
}

// ---- per pixel, forward -------------------------------------------------------------------------

template <class F>
struct SaturationParts {
  F high, low, light, amount, s, s_below, p;
  bool lift;  // x >= 0
};

template <class F>
VHARM_HD F highlight_pixel(F v, F exponent) {
  // vmin keeps rounding of the power from passing 1, as the formula's inner clamp does.
  return clamp01(F(1.0f) - vmin(F(1.0f), pow_positive(F(1.0f) - v + F(kTiny), exponent)));
}

template <class F>
VHARM_HD F shadow_pixel(F v, F exponent) {
  return vmin(F(1.0f), pow_positive(v + F(kTiny), exponent));
}

template <class F>
VHARM_HD Rgb<F> saturation_pixel(Rgb<F> v, float x) {
  const F high = vmax(vmax(v.r, v.g), v.b), low = vmin(vmin(v.r, v.g), v.b);
  const F light = (high + low) * F(0.5f);
  F k;
  if (x >= 0) {
    const F below = select(less(light, F(0.5f)), high + low, F(2.0f) - (high + low)) + F(kEpsilon);
    const F s = (high - low) / below;
    const F p = select(less(F(1.0f), s + F(x)), s, F(1.0f - x));
    k = F(1.0f) / (p + F(kEpsilon)) - F(1.0f);
  } else {
    k = F(x);
  }
  return {clamp01(vfma(v.r - light, k, v.r)), clamp01(vfma(v.g - light, k, v.g)),
          clamp01(vfma(v.b - light, k, v.b))};
}

template <class F>
VHARM_HD Rgb<F> hue_pixel(Rgb<F> v, const float* m) {
  return {vfma(v.r, F(m[0]), vfma(v.g, F(m[1]), v.b * F(m[2]))),
          vfma(v.r, F(m[3]), vfma(v.g, F(m[4]), v.b * F(m[5]))),
          vfma(v.r, F(m[6]), vfma(v.g, F(m[7]), v.b * F(m[8])))};
}

// One filter and its clamp.
template <class F>
VHARM_HD Rgb<F> stage_forward(const Stage& stage, Rgb<F> v) {
  const float* c = stage.c;
  switch (stage.filter) {
    case Filter::temperature:
      return {clamp01(v.r * F(c[0])), clamp01(v.g * F(c[1])), clamp01(v.b * F(c[2]))};
    case Filter::brightness:
    case Filter::exposure:
      return {clamp01(v.r * F(c[0])), clamp01(v.g * F(c[0])), clamp01(v.b * F(c[0]))};
    case Filter::contrast:
      return {clamp01(vfma(v.r - F(c[1]), F(c[0]), v.r)),
              clamp01(vfma(v.g - F(c[1]), F(c[0]), v.g)),
              clamp01(vfma(v.b - F(c[1]), F(c[0]), v.b))};
    case Filter::saturation:
      return saturation_pixel(v, c[0]);
    case Filter::highlight:
      return {highlight_pixel(v.r, F(c[0])), highlight_pixel(v.g, F(c[0])),
              highlight_pixel(v.b, F(c[0]))};
    case Filter::shadow:
      return {shadow_pixel(v.r, F(c[0])), shadow_pixel(v.g, F(c[0])), shadow_pixel(v.b, F(c[0]))};
    case Filter::hue: {
      const Rgb<F> z = hue_pixel(v, c);
      return {clamp01(z.r), clamp01(z.g), clamp01(z.b)};
    }
  }
  return v;
}

// ---- per pixel, backward ------------------------------------------------------------------------

// The clamp passes gradient where 0 <= z <= 1, the ends included.
template <class F>
VHARM_HD F through_clamp(F z, F grad) {
  return select(both(less_equal(F(0.0f), z), less_equal(z, F(1.0f))), grad, F(0.0f));
}

// Accumulates into acc[kCoefficients] and returns the gradient of the filter's input.
template <class F>
VHARM_HD F scale_backward(F v, F gain, F grad, F& acc) {
  grad = through_clamp(v * gain, grad);
  acc = vfma(grad, v, acc);
  return grad * gain;
}

template <class F>
VHARM_HD F contrast_backward(F v, F gain, F mean, F grad, F* acc) {
  grad = through_clamp(vfma(v - mean, gain, v), grad);
  acc[0] = vfma(grad, v - mean, acc[0]);
  acc[1] = acc[1] - grad * gain;
  return vfma(grad, gain, grad);
}

// The inner clamps of highlight and shadow never bind: in float32 1 + 1e-9 is 1, so no base is
// above 1, and no exponent is below 0.
template <class F>
VHARM_HD F highlight_backward(F v, F exponent, F grad, F& acc) {
  const F base = F(1.0f) - v + F(kTiny), log_base = vlog2(base);
  const F power = vexp2(exponent * log_base);
  acc = acc - grad * power * log_base * F(0.69314718f);
  // d power / d base = exponent * base^(exponent-1), and base falls with v
  return grad * exponent * power / base;
}

template <class F>
VHARM_HD F shadow_backward(F v, F exponent, F grad, F& acc) {
  const F base = v + F(kTiny), log_base = vlog2(base), power = vexp2(exponent * log_base);
  acc = vfma(grad * power, log_base * F(0.69314718f), acc);
  return grad * exponent * power / base;
}

// Gradients of max and min go to the channels that attain them, in equal shares.
template <class F>
VHARM_HD void share_extremes(Rgb<F> v, F high, F low, F grad_high, F grad_low, Rgb<F>& out) {
  const F one(1.0f), zero(0.0f);
  const F hr = select(less(v.r, high), zero, one), hg = select(less(v.g, high), zero, one);
  const F hb = select(less(v.b, high), zero, one);
  const F lr = select(less(low, v.r), zero, one), lg = select(less(low, v.g), zero, one);
  const F lb = select(less(low, v.b), zero, one);
  const F share_high = grad_high / (hr + hg + hb), share_low = grad_low / (lr + lg + lb);
  out.r = out.r + hr * share_high + lr * share_low;
  out.g = out.g + hg * share_high + lg * share_low;
  out.b = out.b + hb * share_high + lb * share_low;
}

template <class F>
VHARM_HD Rgb<F> saturation_backward(Rgb<F> v, float x, Rgb<F> grad, F& acc) {
  const F half(0.5f), one(1.0f), zero(0.0f), two(2.0f);
  const F high = vmax(vmax(v.r, v.g), v.b), low = vmin(vmin(v.r, v.g), v.b);
  const F total = high + low, spread = high - low, light = total * half;
  const F dr = v.r - light, dg = v.g - light, db = v.b - light;
  F k, grad_high(0.0f), grad_low(0.0f);
  if (x >= 0) {
    const auto dark = less(light, half);
    const F below = select(dark, total, two - total) + F(kEpsilon);
    const F s = spread / below;
    const auto limited = less(one, s + F(x));
    const F p = select(limited, s, F(1.0f - x)) + F(kEpsilon);
    k = one / p - one;
    grad = {through_clamp(vfma(dr, k, v.r), grad.r), through_clamp(vfma(dg, k, v.g), grad.g),
            through_clamp(vfma(db, k, v.b), grad.b)};
    const F grad_k = grad.r * dr + grad.g * dg + grad.b * db;
    const F grad_p = zero - grad_k / (p * p);
    acc = acc - select(limited, zero, grad_p);
    const F grad_s = select(limited, grad_p, zero);
    // s = spread / below, below = total + eps or 2 - total + eps
    const F by_spread = grad_s / below, by_below = zero - by_spread * s;
    const F by_total = select(dark, by_below, zero - by_below);
    grad_high = by_spread + by_total;
    grad_low = by_total - by_spread;
  } else {
    k = F(x);
    grad = {through_clamp(vfma(dr, k, v.r), grad.r), through_clamp(vfma(dg, k, v.g), grad.g),
            through_clamp(vfma(db, k, v.b), grad.b)};
    acc = acc + grad.r * dr + grad.g * dg + grad.b * db;
  }
  const F grad_light = (zero - k) * (grad.r + grad.g + grad.b) * half;
  Rgb<F> out{vfma(grad.r, k, grad.r), vfma(grad.g, k, grad.g), vfma(grad.b, k, grad.b)};
  share_extremes(v, high, low, grad_high + grad_light, grad_low + grad_light, out);
  return out;
}

template <class F>
VHARM_HD Rgb<F> hue_backward(Rgb<F> v, const float* m, Rgb<F> grad, F* acc) {
  const Rgb<F> z = hue_pixel(v, m);
  const Rgb<F> g{through_clamp(z.r, grad.r), through_clamp(z.g, grad.g),
                 through_clamp(z.b, grad.b)};
  const F rows[3] = {g.r, g.g, g.b}, columns[3] = {v.r, v.g, v.b};
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) acc[3 * i + j] = vfma(rows[i], columns[j], acc[3 * i + j]);
  return {vfma(g.r, F(m[0]), vfma(g.g, F(m[3]), g.b * F(m[6]))),
          vfma(g.r, F(m[1]), vfma(g.g, F(m[4]), g.b * F(m[7]))),
          vfma(g.r, F(m[2]), vfma(g.g, F(m[5]), g.b * F(m[8])))};
}

// v is the filter's input, grad the gradient of its clamped output.
template <class F>
VHARM_HD Rgb<F> stage_backward_pixel(const Stage& stage, Rgb<F> v, Rgb<F> grad, F* acc) {
  const float* c = stage.c;
  switch (stage.filter) {
    case Filter::temperature:
      return {scale_backward(v.r, F(c[0]), grad.r, acc[0]),
              scale_backward(v.g, F(c[1]), grad.g, acc[1]),
              scale_backward(v.b, F(c[2]), grad.b, acc[2])};
    case Filter::brightness:
    case Filter::exposure:
      return {scale_backward(v.r, F(c[0]), grad.r, acc[0]),
              scale_backward(v.g, F(c[0]), grad.g, acc[0]),
              scale_backward(v.b, F(c[0]), grad.b, acc[0])};
    case Filter::contrast:
      return {contrast_backward(v.r, F(c[0]), F(c[1]), grad.r, acc),
              contrast_backward(v.g, F(c[0]), F(c[1]), grad.g, acc),
              contrast_backward(v.b, F(c[0]), F(c[1]), grad.b, acc)};
    case Filter::saturation:
      return saturation_backward(v, c[0], grad, acc[0]);
    case Filter::highlight:
      return {highlight_backward(v.r, F(c[0]), grad.r, acc[0]),
              highlight_backward(v.g, F(c[0]), grad.g, acc[0]),
              highlight_backward(v.b, F(c[0]), grad.b, acc[0])};
    case Filter::shadow:
      return {shadow_backward(v.r, F(c[0]), grad.r, acc[0]),
              shadow_backward(v.g, F(c[0]), grad.g, acc[0]),
              shadow_backward(v.b, F(c[0]), grad.b, acc[0])};
    case Filter::hue:
      return hue_backward(v, c, grad, acc);
  }
  return grad;
}

// ---- launchers, CPU (libvharm) ------------------------------------------------------------------
// `arguments` [n, k] and `statistics` [n, k, 3] are float32, contiguous. Results do not depend on
// `threads`. Definitions: csrc/cpu/filters.cpp.

struct FilterChain {
  const int* filters;  // k codes
  int k;
  const float* arguments;
  const float* statistics;
  bool quantized;  // the released contrast gain
};

VHARM_API Status filter_chain(const ImageView& image, const MaskView& mask,
                              const FilterChain& chain, const ImageView& out, int threads);

// One frame's YUV planes to YUV planes, without an RGB image in between. `chain` is one image's
// (n = 1); the mask has one value per luma sample.
VHARM_API Status filter_chain_yuv(const PlaneView* planes, const MaskView& mask,
                                  const FilterChain& chain, const YuvFormat& format,
                                  const PlaneView* out, int threads);

// grad_image and grad_mask may have data == nullptr. grad_arguments [n, k] and grad_statistics
// [n, k, 3] are overwritten.
VHARM_API Status filter_chain_backward(const ImageView& grad, const ImageView& image,
                                       const MaskView& mask, const FilterChain& chain,
                                       const ImageView& grad_image, const MaskView& grad_mask,
                                       float* grad_arguments, float* grad_statistics, int threads);

// means [n, 3] of the unmasked chain's output.
VHARM_API Status chain_means(const ImageView& image, const FilterChain& chain, float* means,
                             int threads);

VHARM_API Status chain_means_backward(const float* grad, const ImageView& image,
                                      const FilterChain& chain, const ImageView& grad_image,
                                      float* grad_arguments, float* grad_statistics, int threads);

// targets: the view of stage 0; target_stride: samples from one stage to the next.
VHARM_API Status filter_chain_loss(const ImageView& image, const MaskView& mask,
                                   const FilterChain& chain, const ImageView& targets,
                                   int64_t target_stride, float* losses, int threads);

VHARM_API Status filter_chain_loss_backward(const float* grad, const ImageView& image,
                                            const MaskView& mask, const FilterChain& chain,
                                            const ImageView& targets, int64_t target_stride,
                                            const ImageView& grad_image, float* grad_arguments,
                                            float* grad_statistics, int threads);

}  // namespace vharm
