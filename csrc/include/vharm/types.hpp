// SPDX-License-Identifier: Apache-2.0
// The plain types that kernels and their callers share. No framework below this line.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define VHARM_HD __host__ __device__ __forceinline__
#else
// always_inline keeps one instruction set's code out of another's translation units: a shared
// out-of-line copy could hold AVX-512 instructions and be called on a machine without them.
#define VHARM_HD inline __attribute__((always_inline))
#endif
#if defined(__GNUC__)
#define VHARM_API __attribute__((visibility("default")))
#else
#define VHARM_API
#endif

namespace vharm {

// Sample types. The codes are part of the interface (vharm/ops/_native.py repeats them).
enum class DType : int { u8 = 0, u16 = 1, f16 = 2, bf16 = 3, f32 = 4 };

// What a launcher reports; the caller turns it into an error of its language.
enum class Status : int { ok = 0, unsupported = 1, out_of_memory = 2, launch_failed = 3 };

// A batch of RGB images in any layout: NCHW, NHWC and slices differ only in strides.
struct ImageView {
  void* data;              // sample (n=0, c=0, h=0, w=0)
  DType dtype;             // u8 and u16 are full scale, floats are in [0, 1]
  int64_t n, h, w;         // batch, rows, columns; always three channels
  int64_t sn, sc, sh, sw;  // strides in samples
};

// A batch of images or feature maps of any number of channels, in any layout.
struct TensorView {
  void* data;
  DType dtype;  // u8 and u16 are full scale, floats as they are
  int64_t n, c, h, w;
  int64_t sn, sc, sh, sw;  // strides in samples
};

// A batch of masks, or none: data == nullptr means one everywhere.
// The mask value is strength * clamp((sample - black) / (white - black), 0, 1).
struct MaskView {
  void* data;
  DType dtype;
  int64_t sn, sh, sw;  // strides in samples
  float black, white, strength;
};

// One 8- to 16-bit plane of a YUV frame.
struct PlaneView {
  void* data;
  DType dtype;  // u8 or u16
  int64_t h, w;
  int64_t sh, sw;
};

// Y'CbCr to R'G'B' in affine form, so that range, depth and matrix need no case in the kernels:
// rgb = to_rgb * (sample - offset), sample = from_rgb * rgb + offset.
struct YuvFormat {
  float to_rgb[9];
  float from_rgb[9];
  float offset[3];
  float maximum;       // the largest sample, 2^depth - 1
  int log2_x, log2_y;  // chroma subsampling
};

}  // namespace vharm
