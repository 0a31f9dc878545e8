// SPDX-License-Identifier: Apache-2.0
// Patches as packed tokens on an NVIDIA GPU: the launchers. Arguments as for the CPU launchers of
// the same names (vharm/tokens.hpp), all pointers device memory; `stream` is a cudaStream_t of the
// current device. Nothing is allocated and nothing summed with atomics: results are deterministic,
// and the launches can be captured in a CUDA graph.
//
// Bytes moved, with S bytes per sample: pack_patches 2S per kept sample; unpack_patches 2S per
// sample of the image (in place: per kept sample), and with a mask its own bytes and the image's
// under it.
#pragma once

#include "vharm/tokens.hpp"

namespace vharm::cuda {

VHARM_API Status foreground_patches(const TensorView& mask, int patch, uint8_t* out, void* stream);

VHARM_API Status pack_patches(const TensorView& image, const int64_t* index, int64_t count,
                              const MaskView& mask, int patch, const TokenView& tokens,
                              void* stream);

VHARM_API Status unpack_patches(const TokenView& tokens, const int64_t* slots,
                                const TensorView& image, const MaskView& mask, int patch,
                                const TensorView& out, void* stream);

VHARM_API Status patch_mask_gradient(const TensorView& grad, const TokenView& tokens,
                                     const int64_t* index, int64_t count, const TensorView& image,
                                     const MaskView& mask, int patch, const TensorView& grad_mask,
                                     void* stream);

}  // namespace vharm::cuda
