// SPDX-License-Identifier: Apache-2.0
// Filter chains over spans: every stage over the whole span before the next, so that independent
// pixels hide each other's latency and a span never leaves the first cache level.
#pragma once

#include "cpu/apply.hpp"
#include "vharm/filters.hpp"

namespace vharm {
namespace VHARM_ISA {

inline void make_stages(const FilterChain& chain, int64_t n, Stage* stages) {
  for (int i = 0; i < chain.k; ++i) {
    stages[i] = make_stage(static_cast<Filter>(chain.filters[i]), chain.arguments[n * chain.k + i],
                           chain.statistics + 3 * (n * chain.k + i), chain.quantized);
  }
}

template <class Pixel>
VHARM_HD void each_vector(float* r, float* g, float* b, int n, const Pixel& pixel) {
  for (int i = 0; i < n; i += kWidth) {
    const Rgb<vf> v = pixel(Rgb<vf>{load(r + i), load(g + i), load(b + i)});
    store(r + i, v.r);
    store(g + i, v.g);
    store(b + i, v.b);
  }
}

// The switch on the filter is taken out of the loop by making it a template argument.
template <Filter kind>
void run_stage(const Stage& stage, float* r, float* g, float* b, int n) {
  Stage known = stage;
  known.filter = kind;
  each_vector(r, g, b, n, [&](Rgb<vf> v) { return stage_forward(known, v); });
}

inline void clamp_span(float* r, float* g, float* b, int n) {
  each_vector(r, g, b, n,
              [](Rgb<vf> v) { return Rgb<vf>{clamp01(v.r), clamp01(v.g), clamp01(v.b)}; });
}

inline void run_stage(const Stage& stage, float* r, float* g, float* b, int n) {
  switch (stage.filter) {
    case Filter::temperature:
      return run_stage<Filter::temperature>(stage, r, g, b, n);
    case Filter::brightness:
    case Filter::exposure:
      return run_stage<Filter::brightness>(stage, r, g, b, n);
    case Filter::contrast:
      return run_stage<Filter::contrast>(stage, r, g, b, n);
    case Filter::saturation:
      return run_stage<Filter::saturation>(stage, r, g, b, n);
    case Filter::highlight:
      return run_stage<Filter::highlight>(stage, r, g, b, n);
    case Filter::shadow:
      return run_stage<Filter::shadow>(stage, r, g, b, n);
    case Filter::hue:
      return run_stage<Filter::hue>(stage, r, g, b, n);
  }
}

inline bool is_scale(Filter f) {
  return f == Filter::temperature || f == Filter::brightness || f == Filter::exposure;
}

// Runs of cheap stages are walked together: temperature, brightness and contrast cost less than
// loading and storing the span between them. Returns how many stages were done.
inline int run_cheap(const Stage* stages, int k, float* r, float* g, float* b, int n) {
  if (k < 3 || stages[0].filter != Filter::temperature || !is_scale(stages[1].filter) ||
      stages[2].filter != Filter::contrast) {
    return 0;
  }
  Stage t = stages[0], s = stages[1], c = stages[2];
  t.filter = Filter::temperature;
  s.filter = Filter::brightness;
  if (stages[1].filter == Filter::temperature) return 0;
  c.filter = Filter::contrast;
  each_vector(r, g, b, n, [&](Rgb<vf> v) {
    v = {clamp01(v.r), clamp01(v.g), clamp01(v.b)};
    return stage_forward(c, stage_forward(s, stage_forward(t, v)));
  });
  return 3;
}

inline void run_chain(const Stage* stages, int k, float* r, float* g, float* b, int n) {
  int done = run_cheap(stages, k, r, g, b, n);
  if (done == 0) clamp_span(r, g, b, n);
  for (; done < k; ++done) run_stage(stages[done], r, g, b, n);
}

}  // namespace VHARM_ISA
}  // namespace vharm
