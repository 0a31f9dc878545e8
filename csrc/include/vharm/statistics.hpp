// SPDX-License-Identifier: Apache-2.0
// Masked colour statistics: launchers.
#pragma once

#include "vharm/types.hpp"

namespace vharm {

// mean [n, 3], covariance [n, 3, 3] (divided by the weight) and weight [n] of each image's colours
// under the mask; zeros where the mask is empty.
VHARM_API Status masked_moments(const ImageView& image, const MaskView& mask, float* mean,
                                float* covariance, float* weight, int threads);

// Takes the gradients of the three results and the results themselves. grad_image and grad_mask
// may have data == nullptr.
VHARM_API Status masked_moments_backward(const float* grad_mean, const float* grad_covariance,
                                         const float* grad_weight, const ImageView& image,
                                         const MaskView& mask, const float* mean,
                                         const float* covariance, const float* weight,
                                         const ImageView& grad_image, const MaskView& grad_mask,
                                         int threads);

}  // namespace vharm
