// SPDX-License-Identifier: Apache-2.0
// Four pixels in a row, from any layout: as they are in memory, and as float RGB in [0, 1].
//
//   packed, u8   | r g b r | g b r g | b r g b |   three 32-bit words
//   planar       | r r r r |  ...  | g g g g |  ...  | b b b b |
//
// The raw samples are kept, so that a pixel the mask does not touch goes out bit for bit.
#pragma once

#include "cuda/samples.cuh"
#include "vharm/filters.hpp"

namespace vharm::cuda {

constexpr int kPixels = 4;

VHARM_HD Real& channel(Rgb<Real>& v, int c) { return c == 0 ? v.r : (c == 1 ? v.g : v.b); }

// Samples of kSize bytes, in three aligned accesses of four samples each.
template <int kSize, bool kPacked>
struct VectorPixels {
  uint32_t words[3 * kSize];

  // `at` in samples from the image's first; count < 4 at the end of a row.
  VHARM_HD void load(const ImageView& image, int64_t at, int count) {
    const char* p = static_cast<const char*>(image.data) + at * kSize;
    if (count == kPixels) {
#pragma unroll
      for (int k = 0; k < 3; ++k) {
        const int64_t step = kPacked ? 4 * k : k * image.sc;
        const auto four = *reinterpret_cast<const Four<kSize>*>(p + step * kSize);
#pragma unroll
        for (int w = 0; w < kSize; ++w) words[k * kSize + w] = four.words[w];
      }
      return;
    }
    clear(words);
#pragma unroll
    for (int j = 0; j < 3 * kPixels; ++j) {
      const int i = j / 3, c = j % 3;
      if (i < count) put(words, i, c, load_bits(p, kSize, i * image.sw + c * image.sc));
    }
  }

  VHARM_HD void store(const ImageView& image, int64_t at, int count) const {
    char* p = static_cast<char*>(image.data) + at * kSize;
    if (count == kPixels) {
#pragma unroll
      for (int k = 0; k < 3; ++k) {
        const int64_t step = kPacked ? 4 * k : k * image.sc;
        Four<kSize> four;
#pragma unroll
        for (int w = 0; w < kSize; ++w) four.words[w] = words[k * kSize + w];
        *reinterpret_cast<Four<kSize>*>(p + step * kSize) = four;
      }
      return;
    }
#pragma unroll
    for (int j = 0; j < 3 * kPixels; ++j) {
      const int i = j / 3, c = j % 3;
      if (i < count) store_bits(p, kSize, i * image.sw + c * image.sc, sample(i, c));
    }
  }

  VHARM_HD uint32_t sample(int i, int c) const {
    const int at = place(i, c);
    if constexpr (kSize == 4) return words[at];
    return (words[at * kSize / 4] >> (at * kSize % 4 * 8)) & (kSize == 1 ? 0xffu : 0xffffu);
  }

  // `to` starts out cleared.
  static VHARM_HD void put(uint32_t* to, int i, int c, uint32_t bits) {
    const int at = place(i, c);
    to[at * kSize / 4] |= bits << (at * kSize % 4 * 8);
  }
  static VHARM_HD void clear(uint32_t* to) {
#pragma unroll
    for (int w = 0; w < 3 * kSize; ++w) to[w] = 0;
  }

  // Only the dtypes of this size.
  template <class Body>
  static VHARM_HD void with_own_dtype(DType dtype, const Body& body) {
    if constexpr (kSize == 1) {
      body(Known<DType::u8>{});
    } else if constexpr (kSize == 4) {
      body(Known<DType::f32>{});
    } else {
      if (dtype == DType::f16) return body(Known<DType::f16>{});
      if (dtype == DType::bf16) return body(Known<DType::bf16>{});
      body(Known<DType::u16>{});
    }
  }

 private:
  static VHARM_HD int place(int i, int c) { return kPacked ? 3 * i + c : kPixels * c + i; }
};

// Any strides and dtype, one sample at a time.
struct StridedPixels {
  uint32_t words[3 * kPixels];

  VHARM_HD void load(const ImageView& image, int64_t at, int count) {
    const int size = sample_size(image.dtype);
    clear(words);
#pragma unroll
    for (int j = 0; j < 3 * kPixels; ++j) {
      const int i = j / 3, c = j % 3;
      if (i < count) words[j] = load_bits(image.data, size, at + i * image.sw + c * image.sc);
    }
  }
  VHARM_HD void store(const ImageView& image, int64_t at, int count) const {
    const int size = sample_size(image.dtype);
#pragma unroll
    for (int j = 0; j < 3 * kPixels; ++j) {
      const int i = j / 3, c = j % 3;
      if (i < count) store_bits(image.data, size, at + i * image.sw + c * image.sc, words[j]);
    }
  }
  VHARM_HD uint32_t sample(int i, int c) const { return words[3 * i + c]; }
  static VHARM_HD void put(uint32_t* to, int i, int c, uint32_t bits) { to[3 * i + c] = bits; }
  static VHARM_HD void clear(uint32_t* to) {
#pragma unroll
    for (int w = 0; w < 3 * kPixels; ++w) to[w] = 0;
  }
  template <class Body>
  static VHARM_HD void with_own_dtype(DType dtype, const Body& body) {
    with_dtype(dtype, body);
  }
};

template <class Pixels>
VHARM_HD void to_rgb(const Pixels& pixels, DType dtype, Rgb<Real>* v) {
  Pixels::with_own_dtype(dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      v[i] = {decode<kType>(pixels.sample(i, 0)), decode<kType>(pixels.sample(i, 1)),
              decode<kType>(pixels.sample(i, 2))};
    }
  });
}

// Replaces the pixels whose mask is above zero.
template <class Pixels>
VHARM_HD void replace(Pixels& pixels, DType dtype, Rgb<Real>* v, const Real* m) {
  Pixels changed;
  Pixels::clear(changed.words);
  Pixels::with_own_dtype(dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      const bool touched = less(Real(0.0f), m[i]);
#pragma unroll
      for (int c = 0; c < 3; ++c) {
        const uint32_t bits = encode<kType>(channel(v[i], c));
        Pixels::put(changed.words, i, c, touched ? bits : pixels.sample(i, c));
      }
    }
  });
  pixels = changed;
}

// ---- one pixel ----------------------------------------------------------------------------------

VHARM_HD Rgb<Real> load_rgb(const ImageView& image, int64_t at) {
  Rgb<Real> v{Real(0.0f), Real(0.0f), Real(0.0f)};
  with_dtype(image.dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      channel(v, c) = decode<kType>(load_bits(image.data, sample_size(kType), at + c * image.sc));
    }
  });
  return v;
}

VHARM_HD void store_rgb(const ImageView& image, int64_t at, Rgb<Real> v) {
  with_dtype(image.dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      store_bits(image.data, sample_size(kType), at + c * image.sc, encode<kType>(channel(v, c)));
    }
  });
}

}  // namespace vharm::cuda
