// SPDX-License-Identifier: Apache-2.0
// Samples of any dtype, as their bits and as numbers; four of them in one load; masks.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>

#include "cuda/real.cuh"
#include "vharm/types.hpp"

namespace vharm::cuda {

VHARM_HD uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}
VHARM_HD float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

VHARM_HD int sample_size(DType dtype) {
  return dtype == DType::u8 ? 1 : (dtype == DType::f32 ? 4 : 2);
}

template <DType kType>
struct Known {
  static constexpr DType value = kType;
};

// Calls body(Known<dtype>{}).
template <class Body>
VHARM_HD void with_dtype(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::u8:
      return body(Known<DType::u8>{});
    case DType::u16:
      return body(Known<DType::u16>{});
    case DType::f16:
      return body(Known<DType::f16>{});
    case DType::bf16:
      return body(Known<DType::bf16>{});
    case DType::f32:
      return body(Known<DType::f32>{});
  }
}

template <DType kType>
constexpr float kFullScale = kType == DType::u8 ? 255.0f : (kType == DType::u16 ? 65535.0f : 1.0f);

// The sample as a number: 0 to 255 for u8.
template <DType kType>
VHARM_HD float number(uint32_t bits) {
  if constexpr (kType == DType::f32) return float_of(bits);
  if constexpr (kType == DType::bf16) return float_of(bits << 16);
  if constexpr (kType == DType::f16) {
    __half_raw raw;
    raw.x = static_cast<unsigned short>(bits);
    return __half2float(__half(raw));
  }
  return static_cast<float>(bits);
}

// The sample in [0, 1].
template <DType kType>
VHARM_HD Real decode(uint32_t bits) {
  constexpr float scale = 1.0f / kFullScale<kType>;
  return Real(kFullScale<kType> == 1.0f ? number<kType>(bits) : number<kType>(bits) * scale);
}

// Integers are clamped and rounded half to even, NaN becomes 0; floats keep what they are given.
template <DType kType>
VHARM_HD uint32_t encode(Real value) {
  if constexpr (kType == DType::f32) return bits_of(value.v);
  if constexpr (kType == DType::f16) return __half_raw(__float2half_rn(value.v)).x;
  if constexpr (kType == DType::bf16) return __nv_bfloat16_raw(__float2bfloat16_rn(value.v)).x;
  constexpr float full = kFullScale<kType>;
  // From 2^23 on floats are whole numbers: the addition rounds, and leaves the integer in the low
  // bits of the mantissa.
  const float scaled = fminf(fmaxf(value.v * full, 0.0f), full) + 8388608.0f;
  return bits_of(scaled) & (kType == DType::u8 ? 0xffu : 0xffffu);
}

VHARM_HD uint32_t load_bits(const void* data, int size, int64_t i) {
  if (size == 1) return static_cast<const uint8_t*>(data)[i];
  if (size == 2) return static_cast<const uint16_t*>(data)[i];
  return static_cast<const uint32_t*>(data)[i];
}
VHARM_HD void store_bits(void* data, int size, int64_t i, uint32_t bits) {
  if (size == 1) {
    static_cast<uint8_t*>(data)[i] = static_cast<uint8_t>(bits);
  } else if (size == 2) {
    static_cast<uint16_t*>(data)[i] = static_cast<uint16_t>(bits);
  } else {
    static_cast<uint32_t*>(data)[i] = bits;
  }
}

// Four samples of kSize bytes in one access.
template <int kSize>
struct alignas(4 * kSize) Four {
  uint32_t words[kSize];

  VHARM_HD uint32_t sample(int i) const {
    if constexpr (kSize == 4) return words[i];
    return (words[i * kSize / 4] >> (i * kSize % 4 * 8)) & (kSize == 1 ? 0xffu : 0xffffu);
  }
};

// ---- masks --------------------------------------------------------------------------------------

struct Mask {
  MaskView view;
  float range;  // 1 / (white - black)
  bool vector;  // groups of four lie side by side and aligned
};

VHARM_HD Real mask_value(const Mask& mask, float sample) {
  const Real v = (Real(sample) - Real(mask.view.black)) * Real(mask.range);
  return vmin(Real(1.0f), vmax(Real(0.0f), v)) * Real(mask.view.strength);
}

VHARM_HD Real mask_at(const Mask& mask, int64_t i) {
  if (mask.view.data == nullptr) return Real(mask.view.strength);
  float sample = 0;
  with_dtype(mask.view.dtype, [&](auto dtype) {
    constexpr DType kType = decltype(dtype)::value;
    sample = number<kType>(load_bits(mask.view.data, sample_size(kType), i));
  });
  return mask_value(mask, sample);
}

// `count` values from sample i on, zeros up to four. Whether any is above zero.
VHARM_HD bool load_mask(const Mask& mask, int64_t i, int count, Real* m) {
  if (mask.vector && count == 4 && mask.view.data != nullptr) {
    float samples[4] = {0, 0, 0, 0};
    with_dtype(mask.view.dtype, [&](auto dtype) {
      constexpr DType kType = decltype(dtype)::value;
      constexpr int kSize = kType == DType::u8 ? 1 : (kType == DType::f32 ? 4 : 2);
      const auto* from = static_cast<const char*>(mask.view.data) + i * kSize;
      const auto four = *reinterpret_cast<const Four<kSize>*>(from);
#pragma unroll
      for (int k = 0; k < 4; ++k) samples[k] = number<kType>(four.sample(k));
    });
#pragma unroll
    for (int k = 0; k < 4; ++k) m[k] = mask_value(mask, samples[k]);
  } else {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      m[k] = k < count ? mask_at(mask, i + k * mask.view.sw) : Real(0.0f);
    }
  }
  bool any = false;
#pragma unroll
  for (int k = 0; k < 4; ++k) any = any || less(Real(0.0f), m[k]);
  return any;
}

}  // namespace vharm::cuda
