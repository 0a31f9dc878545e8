// SPDX-License-Identifier: Apache-2.0
// Masked colour statistics, Gram matrices and differences of neighbours: launchers.
#pragma once

#include "vharm/types.hpp"

namespace vharm {

// mean [n, 3], covariance [n, 3, 3] (divided by the weight) and weight [n] of each image's colours
// under the mask; zeros where the mask is empty.
VHARM_API Status masked_moments(const ImageView& image, const MaskView& mask, float* mean,
                                float* covariance, float* weight, int threads);

// out [n, 3, bins]: soft histograms of each channel under the mask, bin k at k / (bins - 1),
// divided by the mask's sum or 1e-4, whichever is more. Values are clamped to [0, 1]; bins is at
// least 2.
VHARM_API Status masked_histogram(const ImageView& image, const MaskView& mask, int bins,
                                  float* out, int threads);

// Takes the gradients of the three results and the results themselves. grad_image and grad_mask
// may have data == nullptr.
VHARM_API Status masked_moments_backward(const float* grad_mean, const float* grad_covariance,
                                         const float* grad_weight, const ImageView& image,
                                         const MaskView& mask, const float* mean,
                                         const float* covariance, const float* weight,
                                         const ImageView& grad_image, const MaskView& grad_mask,
                                         int threads);

// out [sequences, c, c]: F^T F of each sequence's rows of tokens [count, c], bounds in cu_seqlens
// [sequences + 1].
VHARM_API Status gram(const float* tokens, const int32_t* cu_seqlens, int64_t sequences, int64_t c,
                      float* out, int threads);

// square [sequences, c, c] is the gradient plus its transpose.
VHARM_API Status gram_backward(const float* square, const float* tokens, const int32_t* cu_seqlens,
                               int64_t sequences, int64_t c, float* grad_tokens, int threads);

// out [n]: factor times the sum, over channels, of the squared differences of horizontal and of
// vertical neighbours.
VHARM_API Status patch_balance(const ImageView& image, double factor, float* out, int threads);

VHARM_API Status patch_balance_backward(const float* grad, const ImageView& image, double factor,
                                        const ImageView& grad_image, int threads);

}  // namespace vharm
