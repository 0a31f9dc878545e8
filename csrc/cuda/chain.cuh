// SPDX-License-Identifier: Apache-2.0
// Filter chains in kernels: the stages of one image in shared memory, and the two ways to walk
// them. Harmonizer's own chain is known to the compiler, which unrolls it and keeps its
// coefficients in registers; any other is a switch per stage, uniform over the block.
#pragma once

#include <cuda_runtime.h>

#include "cuda/real.cuh"
#include "vharm/filters.hpp"

namespace vharm::cuda {

constexpr int kThreads = 256;

// FilterChain with its codes by value. slots[i]: where stage i's coefficients begin in an array of
// all stages' gradients, `slot_count` long.
struct DeviceChain {
  int codes[kMaxFilters];
  int slots[kMaxFilters];
  int k, slot_count;
  bool quantized;
  const float* arguments;   // [n, k]
  const float* statistics;  // [n, k, 3]
};

inline int coefficient_count(Filter filter) {
  switch (filter) {
    case Filter::temperature:
      return 3;
    case Filter::contrast:
      return 2;
    case Filter::hue:
      return 9;
    default:
      return 1;
  }
}

inline DeviceChain device_chain(const FilterChain& chain) {
  DeviceChain out{};
  for (int i = 0; i < chain.k; ++i) {
    out.codes[i] = chain.filters[i];
    out.slots[i] = out.slot_count;
    out.slot_count += coefficient_count(static_cast<Filter>(chain.filters[i]));
  }
  out.k = chain.k;
  out.quantized = chain.quantized;
  out.arguments = chain.arguments;
  out.statistics = chain.statistics;
  return out;
}

// Temperature, brightness, contrast, saturation, highlight, shadow.
constexpr int kDefaultFilters = 6;

inline bool is_default(const FilterChain& chain) {
  if (chain.k != kDefaultFilters) return false;
  for (int i = 0; i < chain.k; ++i) {
    if (chain.filters[i] != i) return false;
  }
  return true;
}

// Out of line: double precision trigonometry once per translation unit, not once per kernel.
static __device__ __noinline__ void fill_stage(int code, float x, const float* means,
                                               bool quantized, Stage* out) {
  *out = make_stage(static_cast<Filter>(code), x, means, quantized);
}

// One thread per stage; the block waits for them.
static __device__ __forceinline__ void fill_stages(const DeviceChain& chain, int64_t n,
                                                   Stage* stages) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < chain.k) {
    const int64_t at = n * chain.k + i;
    fill_stage(chain.codes[i], chain.arguments[at], chain.statistics + 3 * at, chain.quantized,
               stages + i);
  }
  __syncthreads();
}

struct DefaultChain {
  static constexpr int kCapacity = kDefaultFilters, kSlots = 9;
  static constexpr int kUnroll = kCapacity, kSlotUnroll = kSlots;
  Stage stages[kDefaultFilters];

  VHARM_HD DefaultChain(const DeviceChain&, const Stage* filled) {
#pragma unroll
    for (int i = 0; i < kDefaultFilters; ++i) {
      stages[i] = filled[i];
      stages[i].filter = static_cast<Filter>(i);
    }
  }
  VHARM_HD int size() const { return kDefaultFilters; }
  VHARM_HD int slot_count() const { return kSlots; }
  VHARM_HD const Stage& stage(int i) const { return stages[i]; }
  VHARM_HD int slot(int i) const { return i == 0 ? 0 : (i < 3 ? i + 2 : i + 3); }
};

struct AnyChain {
  static constexpr int kCapacity = kMaxFilters, kSlots = kMaxFilters * kCoefficients;
  static constexpr int kUnroll = 1, kSlotUnroll = 1;
  const Stage* stages;
  const int* slots;
  int k, count;

  VHARM_HD AnyChain(const DeviceChain& chain, const Stage* filled)
      : stages(filled), slots(chain.slots), k(chain.k), count(chain.slot_count) {}
  VHARM_HD int size() const { return k; }
  VHARM_HD int slot_count() const { return count; }
  VHARM_HD const Stage& stage(int i) const { return stages[i]; }
  VHARM_HD int slot(int i) const { return slots[i]; }
};

VHARM_HD Rgb<Real> clamped(Rgb<Real> v) { return {clamp01(v.r), clamp01(v.g), clamp01(v.b)}; }

// Every stage over all the pixels before the next: they hide each other's latency, and the switch
// is taken once for all.
template <int kCount, class Chain>
VHARM_HD void run_chain(const Chain& chain, Rgb<Real>* v) {
#pragma unroll
  for (int p = 0; p < kCount; ++p) v[p] = clamped(v[p]);
#pragma unroll Chain::kUnroll
  for (int i = 0; i < chain.size(); ++i) {
    const Stage& stage = chain.stage(i);
#pragma unroll
    for (int p = 0; p < kCount; ++p) v[p] = stage_forward(stage, v[p]);
  }
}

}  // namespace vharm::cuda
