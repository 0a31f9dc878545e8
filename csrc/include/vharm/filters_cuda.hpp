// SPDX-License-Identifier: Apache-2.0
// White-box filters on an NVIDIA GPU: the launchers. The mathematics is in vharm/filters.hpp.
//
// Every pointer is device memory except FilterChain::filters; `stream` is a cudaStream_t of the
// current device. Launchers return as soon as the work is queued, and without touching anything
// where the image holds no pixel. They can be captured in a CUDA graph: workspaces are taken from
// and given back to a memory pool in stream order.
//
// Sums are taken per block in an order that depends on the image's size alone, without atomics,
// so results are the same on every run and do not depend on the batch or on the number of
// multiprocessors.
//
// Bytes moved per pixel, with S the size of an image's sample, M of the mask's and k stages:
//   filter_chain                3S + M read, 3S written (uint8, float mask: 10; float32: 28)
//   filter_chain_backward       6S + M read, 3S (and M for the mask's gradient) written
//   chain_means                 3S read
//   chain_means_backward        3S read, 3S written
//   filter_chain_loss           3S(k + 1) + M read
//   filter_chain_loss_backward  3S(k + 1) + 2M read, 3S written
// Whatever has no consumer (a gradient with data == nullptr) is not written.
#pragma once

#include "vharm/filters.hpp"
#include "vharm/types.hpp"

namespace vharm::cuda {

// Definitions: csrc/cuda/filters.cu. Arguments as for the CPU launchers of the same names.
VHARM_API Status filter_chain(const ImageView& image, const MaskView& mask,
                              const FilterChain& chain, const ImageView& out, void* stream);

// Definitions: csrc/cuda/filters_backward.cu.
VHARM_API Status filter_chain_backward(const ImageView& grad, const ImageView& image,
                                       const MaskView& mask, const FilterChain& chain,
                                       const ImageView& grad_image, const MaskView& grad_mask,
                                       float* grad_arguments, float* grad_statistics, void* stream);

VHARM_API Status chain_means_backward(const float* grad, const ImageView& image,
                                      const FilterChain& chain, const ImageView& grad_image,
                                      float* grad_arguments, float* grad_statistics, void* stream);

VHARM_API Status filter_chain_loss_backward(const float* grad, const ImageView& image,
                                            const MaskView& mask, const FilterChain& chain,
                                            const ImageView& targets, int64_t target_stride,
                                            const ImageView& grad_image, float* grad_arguments,
                                            float* grad_statistics, void* stream);

// Definitions: csrc/cuda/filters_sums.cu.
VHARM_API Status chain_means(const ImageView& image, const FilterChain& chain, float* means,
                             void* stream);

VHARM_API Status filter_chain_loss(const ImageView& image, const MaskView& mask,
                                   const FilterChain& chain, const ImageView& targets,
                                   int64_t target_stride, float* losses, void* stream);

// ---- the device (csrc/cuda/device.cu) -----------------------------------------------------------

// What the last launcher of this thread that returned launch_failed or out_of_memory met.
VHARM_API const char* last_problem();

// "ok" when the current device can run this build, else the reason why not, written to `text`.
VHARM_API void device_status(char* text, int size);

struct BuildInfo {
  int runtime;    // 1000 * major + 10 * minor
  int driver;     // what the installed driver supports; 0: none installed
  int archs[16];  // compute capabilities with code in this build, 10 * major + minor
  int arch_count;
};
VHARM_API BuildInfo build_info();

}  // namespace vharm::cuda
