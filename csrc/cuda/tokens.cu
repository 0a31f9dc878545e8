// SPDX-License-Identifier: Apache-2.0
// Pixels to packed tokens and back: a block per patch, whose threads walk its samples in the order
// of what is written, so that stores lie side by side. What is read lies within a patch (3 KiB for
// 16 x 16 x 3 floats) and comes from the first-level cache after its first use.
#include "cuda/launch.cuh"
#include "vharm/tokens_cuda.hpp"

namespace vharm::cuda {
namespace {

struct TokenCall {
  TensorView image, out;  // packing reads image; unpacking reads it and writes out
  TokenView tokens;
  Mask mask;
  const int64_t* numbers;  // index, or slots
  int patch;
  bool move, masked, channels_last;
};

Mask mask_of(const MaskView& view) { return {view, 1.0f / (view.white - view.black), false}; }

// Any dtype, by a branch that all threads take alike.
VHARM_HD Real load_value(const void* data, DType dtype, int64_t i) {
  Real value(0.0f);
  with_dtype(dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
    value = decode<kType>(load_bits(data, sample_size(kType), i));
  });
  return value;
}
VHARM_HD void store_value(void* data, DType dtype, int64_t i, Real value) {
  with_dtype(dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
    store_bits(data, sample_size(kType), i, encode<kType>(value));
  });
}

VHARM_HD int64_t mask_offset(const MaskView& m, int64_t n, int64_t y, int64_t x) {
  return n * m.sn + y * m.sh + x * m.sw;
}

// A patch's sample: which pixel of the patch, which channel.
struct Sample {
  int row, column;
  int64_t c;

  VHARM_HD Sample(int64_t e, int patch, int64_t channels, bool channels_last) {
    const int64_t pixels = int64_t(patch) * patch;
    const int64_t pixel = channels_last ? e / channels : e % pixels;
    c = channels_last ? e - pixel * channels : e / pixels;
    row = static_cast<int>(pixel / patch);
    column = static_cast<int>(pixel - int64_t(row) * patch);
  }
};

__global__ void __launch_bounds__(kThreads)
    foreground_kernel(const __grid_constant__ TokenCall call) {
  const PatchPlace place(call.image, call.patch, blockIdx.x);
  int found = 0;
  for (int i = threadIdx.x; i < call.patch * call.patch; i += kThreads) {
    const int64_t at =
        offset_of(call.image, place.n, place.y + i / call.patch, place.x + i % call.patch);
    found |= load_value(call.image.data, call.image.dtype, at).v > 0.0f;
  }
  found = __syncthreads_or(found);
  if (threadIdx.x == 0) static_cast<uint8_t*>(call.out.data)[blockIdx.x] = found ? 1 : 0;
}

__global__ void __launch_bounds__(kThreads) pack_kernel(const __grid_constant__ TokenCall call) {
  const TensorView& image = call.image;
  const PatchPlace place(image, call.patch, call.numbers[blockIdx.x]);
  const int64_t width = image.c * call.patch * call.patch, first = blockIdx.x * width;
  const int size = sample_size(call.tokens.dtype);
  for (int64_t e = threadIdx.x; e < width; e += kThreads) {
    if (!place.exists) {
      store_bits(call.tokens.data, size, first + e, 0);
      continue;
    }
    const Sample s(e, call.patch, image.c, true);
    const int64_t y = place.y + s.row, x = place.x + s.column;
    const int64_t at = offset_of(image, place.n, y, x) + s.c * image.sc;
    if (call.move) {
      store_bits(call.tokens.data, size, first + e, load_bits(image.data, size, at));
      continue;
    }
    Real value = load_value(image.data, image.dtype, at);
    if (call.masked) {
      const Real m = mask_at(call.mask, mask_offset(call.mask.view, place.n, y, x));
      value = m.v > 0.0f ? m * value : Real(0.0f);
    }
    store_value(call.tokens.data, call.tokens.dtype, first + e, value);
  }
}

__global__ void __launch_bounds__(kThreads) unpack_kernel(const __grid_constant__ TokenCall call) {
  const TensorView &image = call.image, &out = call.out;
  const int64_t slot = call.numbers[blockIdx.x];
  if (slot < 0 && image.data == out.data) return;  // in place
  const PatchPlace place(out, call.patch, blockIdx.x);
  const int64_t width = out.c * call.patch * call.patch;
  const int size = sample_size(out.dtype);
  for (int64_t e = threadIdx.x; e < width; e += kThreads) {
    const Sample s(e, call.patch, out.c, call.channels_last);
    const int64_t y = place.y + s.row, x = place.x + s.column;
    const int64_t to = offset_of(out, place.n, y, x) + s.c * out.sc;
    Real m(1.0f);
    if (call.masked && slot >= 0) {
      m = mask_at(call.mask, mask_offset(call.mask.view, place.n, y, x));
    }
    const int64_t under = offset_of(image, place.n, y, x) + s.c * image.sc;
    if (slot < 0 || !(m.v > 0.0f)) {
      const uint32_t bits = image.data == nullptr ? 0 : load_bits(image.data, size, under);
      store_bits(out.data, size, to, bits);
      continue;
    }
    const int64_t pixel = int64_t(s.row) * call.patch + s.column;
    const int64_t from = slot * width + pixel * out.c + s.c;
    if (call.move) {
      store_bits(out.data, size, to, load_bits(call.tokens.data, size, from));
      continue;
    }
    Real value(0.0f);
    if (call.tokens.data != nullptr) value = load_value(call.tokens.data, call.tokens.dtype, from);
    if (call.masked) {
      value = vfma(m, value, (Real(1.0f) - m) * load_value(image.data, image.dtype, under));
    }
    store_value(out.data, out.dtype, to, value);
  }
}

struct GradientCall {
  TensorView grad, image, grad_mask;
  TokenView tokens;
  Mask mask;
  const int64_t* index;
  int patch;
};

__global__ void __launch_bounds__(kThreads)
    mask_gradient_kernel(const __grid_constant__ GradientCall call) {
  const PatchPlace place(call.grad, call.patch, call.index[blockIdx.x]);
  if (!place.exists) return;
  const int pixels = call.patch * call.patch;
  const int64_t c = call.grad.c;
  for (int i = threadIdx.x; i < pixels; i += kThreads) {
    const int64_t y = place.y + i / call.patch, x = place.x + i % call.patch;
    Real total(0.0f);
    const Real m = mask_at(call.mask, mask_offset(call.mask.view, place.n, y, x));
    for (int64_t k = 0; k < c && m.v > 0.0f; ++k) {
      const auto value = [&](const TensorView& v) {
        return load_value(v.data, v.dtype, offset_of(v, place.n, y, x) + k * v.sc);
      };
      const int64_t from = (blockIdx.x * int64_t(pixels) + i) * c + k;
      const Real token = load_value(call.tokens.data, call.tokens.dtype, from);
      total = vfma(value(call.grad), token - value(call.image), total);
    }
    store_value(call.grad_mask.data, call.grad_mask.dtype, offset_of(call.grad_mask, place.n, y, x),
                total);
  }
}

}  // namespace

Status foreground_patches(const TensorView& mask, int patch, uint8_t* out, void* stream) {
  TokenCall call{};
  call.image = mask;
  call.out.data = out;
  call.patch = patch;
  const int64_t blocks = mask.n * (mask.h / patch) * (mask.w / patch);
  return blocks == 0 ? Status::ok : launch(foreground_kernel, call, blocks, stream);
}

Status pack_patches(const TensorView& image, const int64_t* index, int64_t count,
                    const MaskView& mask, int patch, const TokenView& tokens, void* stream) {
  TokenCall call{};
  call.image = image;
  call.tokens = tokens;
  call.mask = mask_of(mask);
  call.numbers = index;
  call.patch = patch;
  call.masked = mask.data != nullptr;
  call.move = !call.masked && image.dtype == tokens.dtype;
  return count == 0 ? Status::ok : launch(pack_kernel, call, count, stream);
}

Status unpack_patches(const TokenView& tokens, const int64_t* slots, const TensorView& image,
                      const MaskView& mask, int patch, const TensorView& out, void* stream) {
  if (mask.data != nullptr && image.data == nullptr) return Status::unsupported;
  TokenCall call{};
  call.image = image;
  call.out = out;
  call.tokens = tokens;
  call.mask = mask_of(mask);
  call.numbers = slots;
  call.patch = patch;
  call.masked = mask.data != nullptr;
  call.move = !call.masked && tokens.data != nullptr && out.dtype == tokens.dtype;
  call.channels_last = out.sc < out.sw;
  const int64_t blocks = out.n * (out.h / patch) * (out.w / patch);
  return blocks == 0 ? Status::ok : launch(unpack_kernel, call, blocks, stream);
}

Status patch_mask_gradient(const TensorView& grad, const TokenView& tokens, const int64_t* index,
                           int64_t count, const TensorView& image, const MaskView& mask, int patch,
                           const TensorView& grad_mask, void* stream) {
  const GradientCall call{grad, image, grad_mask, tokens, mask_of(mask), index, patch};
  return count == 0 ? Status::ok : launch(mask_gradient_kernel, call, count, stream);
}

}  // namespace vharm::cuda
