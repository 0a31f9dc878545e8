// SPDX-License-Identifier: Apache-2.0
// From images to grids: how the pixels of a batch are shared out, and launches that report.
#pragma once

#include <cuda_runtime.h>

#include "cuda/chain.cuh"
#include "cuda/pixels.cuh"
#include "vharm/filters_cuda.hpp"

namespace vharm::cuda {

// Remembers the error for last_problem() and names it as a Status. Defined in device.cu.
Status report(cudaError_t error);

// The grid is one-dimensional, `blocks` to an image. A block walks every blocks-th chunk of
// kThreads groups; a group is `group` pixels of one row.
struct Walk {
  int64_t rows, width, groups_per_row, groups;
  int group, blocks;
};

// Partial sums are one per block: their number depends on the image alone.
constexpr int kMaxBlocks = 512;

inline Walk make_walk(int64_t rows, int64_t width, int group) {
  Walk walk{rows, width, (width + group - 1) / group, 0, group, 1};
  walk.groups = rows * walk.groups_per_row;
  const int64_t chunks = (walk.groups + kThreads - 1) / kThreads;
  walk.blocks = static_cast<int>(chunks < kMaxBlocks ? chunks : kMaxBlocks);
  return walk;
}

// Calls body(y, x, count) for the groups of one thread.
template <class Body>
VHARM_HD void each_group(const Walk& walk, int64_t block, int thread, const Body& body) {
  const int64_t step = int64_t(walk.blocks) * kThreads;
  for (int64_t g = block * kThreads + thread; g < walk.groups; g += step) {
    int64_t y = 0, x = g;
    if (walk.rows != 1) {
      // 64-bit division is a call of a hundred instructions.
      y = ((g | walk.groups_per_row) >> 32) == 0
              ? int64_t(static_cast<uint32_t>(g) / static_cast<uint32_t>(walk.groups_per_row))
              : g / walk.groups_per_row;
      x = g - y * walk.groups_per_row;
    }
    x *= walk.group;
    const int64_t left = walk.width - x;
    body(y, x, left < walk.group ? static_cast<int>(left) : walk.group);
  }
}

VHARM_HD int64_t offset_of(const ImageView& v, int64_t n, int64_t y, int64_t x) {
  return n * v.sn + y * v.sh + x * v.sw;
}
VHARM_HD int64_t offset_of(const MaskView& v, int64_t n, int64_t y, int64_t x) {
  return n * v.sn + y * v.sh + x * v.sw;
}

inline bool is_empty(const ImageView& image) {
  return image.n == 0 || image.h == 0 || image.w == 0;
}

template <class View>
bool rows_join(const View& v, int64_t w) {
  return v.data == nullptr || v.sh == w * v.sw;
}

// One long row where every view allows it.
template <class... Views>
Walk plan(const ImageView& image, int group, const Views&... others) {
  const bool join = rows_join(image, image.w) && (rows_join(others, image.w) && ...);
  return join ? make_walk(1, image.h * image.w, group) : make_walk(image.h, image.w, group);
}

// Whether four samples at the beginning of any image and row, and so any group, are aligned.
// Strides that are never taken do not count.
template <class View>
bool aligned(const View& v, int64_t n, const Walk& walk) {
  return reinterpret_cast<uintptr_t>(v.data) % (kPixels * sample_size(v.dtype)) == 0 &&
         (n == 1 || v.sn % kPixels == 0) && (walk.rows == 1 || v.sh % kPixels == 0);
}

inline Mask prepared(const MaskView& view, int64_t n, const Walk& walk) {
  const bool vector = view.data != nullptr && view.sw == 1 && aligned(view, n, walk);
  return {view, 1.0f / (view.white - view.black), vector};
}

enum class Layout { packed, planar, strided };

// Whether groups of four pixels can be read in aligned accesses of four samples.
inline Layout layout_of(const ImageView& v, const Walk& walk) {
  if (!aligned(v, v.n, walk)) return Layout::strided;
  if (v.sc == 1 && v.sw == 3) return Layout::packed;
  if (v.sw == 1 && v.sc % kPixels == 0) return Layout::planar;
  return Layout::strided;
}

template <class Call>
Status launch(void (*kernel)(Call), const Call& call, int64_t blocks, void* stream) {
  if (blocks > 0x7fffffff) return Status::unsupported;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.stream = static_cast<cudaStream_t>(stream);
  cudaError_t error = cudaLaunchKernelEx(&config, kernel, call);
  // The call reports configuration errors, this the ones of earlier asynchronous work as well.
  if (error == cudaSuccess) error = cudaGetLastError();
  return report(error);
}

// Calls select(Pixels{}) for the layout and sample size at hand.
template <class Select>
Status with_pixels(const ImageView& image, Layout layout, const Select& select) {
  const int size = sample_size(image.dtype);
  if (layout == Layout::packed) {
    if (size == 1) return select(VectorPixels<1, true>{});
    if (size == 2) return select(VectorPixels<2, true>{});
    return select(VectorPixels<4, true>{});
  }
  if (layout == Layout::planar) {
    if (size == 1) return select(VectorPixels<1, false>{});
    if (size == 2) return select(VectorPixels<2, false>{});
    return select(VectorPixels<4, false>{});
  }
  return select(StridedPixels{});
}

}  // namespace vharm::cuda
