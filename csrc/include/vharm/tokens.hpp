// SPDX-License-Identifier: Apache-2.0
// Patches of images as packed tokens, and back: launchers.
//
// A frame is cut into square patches of `patch` pixels, numbered row by row; patch i of image n has
// the number n * P + i. A token is one patch's samples in the order (row, column, channel), and
// tokens lie one behind the other.
//
//   image [n, c, h, w]              tokens [count, patch * patch * c]
//   +----+----+----+
//   |  0 |  1*|  2 |   index:  1 5   -> | r0c0 RGB | r0c1 RGB | ... |  patch 1
//   +----+----+----+                    | r0c0 RGB | r0c1 RGB | ... |  patch 5
//   |  3 |  4 |  5*|   slots: -1 0 -1 -1 -1 1
//   +----+----+----+
#pragma once

#include "vharm/types.hpp"

namespace vharm {

struct TokenView {
  void* data;  // contiguous
  DType dtype;
};

// out [n, P]: 1 where any sample of the patch (of the first channel) is above 0.
VHARM_API Status foreground_patches(const TensorView& mask, int patch, uint8_t* out, int threads);

// The patches named by index [count], each sample times the mask where there is one. Numbers
// outside [0, n * P) give zeros. Equal dtypes without a mask move the samples as they are; any
// others go through float.
VHARM_API Status pack_patches(const TensorView& image, const int64_t* index, int64_t count,
                              const MaskView& mask, int patch, const TokenView& tokens,
                              int threads);

// slots [n * P] says which token each patch takes, -1 for none. There out = image; elsewhere
// out = mask * token + (1 - mask) * image, the image's own samples where the mask is 0.
// tokens.data == nullptr stands for zeros, and so does image.data == nullptr. out may be the image
// itself: then nothing but the patches that take a token is touched.
VHARM_API Status unpack_patches(const TokenView& tokens, const int64_t* slots,
                                const TensorView& image, const MaskView& mask, int patch,
                                const TensorView& out, int threads);

// grad_mask (one channel) of unpack_patches: sum over channels of grad * (token - image) in the
// patches of index where the mask is above 0; the rest is 0 there, and elsewhere left as it is.
VHARM_API Status patch_mask_gradient(const TensorView& grad, const TokenView& tokens,
                                     const int64_t* index, int64_t count, const TensorView& image,
                                     const MaskView& mask, int patch, const TensorView& grad_mask,
                                     int threads);

// ---- shared arithmetic --------------------------------------------------------------------------

// Where a numbered patch begins, and whether there is such a patch.
struct PatchPlace {
  int64_t n, y, x;
  bool exists;

  VHARM_HD PatchPlace(const TensorView& image, int patch, int64_t number) {
    const int64_t columns = image.w / patch, rows = image.h / patch;
    const int64_t row = number / columns;
    exists = number >= 0 && row < image.n * rows;
    n = row / rows;
    y = row % rows * patch;
    x = number % columns * patch;
  }
};

VHARM_HD int64_t offset_of(const TensorView& v, int64_t n, int64_t y, int64_t x) {
  return n * v.sn + y * v.sh + x * v.sw;
}

}  // namespace vharm
