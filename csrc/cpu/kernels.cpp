// SPDX-License-Identifier: Apache-2.0
#include "cpu/kernels.hpp"

namespace vharm {
namespace VHARM_ISA {

#define VHARM_TEXT_(x) #x
#define VHARM_TEXT(x) VHARM_TEXT_(x)

// Defined in csrc/cpu/<family>.cpp with the signatures of the public launchers.
Status filter_chain(const ImageView&, const MaskView&, const FilterChain&, const ImageView&, int);
Status filter_chain_backward(const ImageView&, const ImageView&, const MaskView&,
                             const FilterChain&, const ImageView&, const MaskView&, float*, float*,
                             int);
Status chain_means(const ImageView&, const FilterChain&, float*, int);
Status chain_means_backward(const float*, const ImageView&, const FilterChain&, const ImageView&,
                            float*, float*, int);
Status filter_chain_loss(const ImageView&, const MaskView&, const FilterChain&, const ImageView&,
                         int64_t, float*, int);
Status filter_chain_loss_backward(const float*, const ImageView&, const MaskView&,
                                  const FilterChain&, const ImageView&, int64_t, const ImageView&,
                                  float*, float*, int);
Status filter_chain_yuv(const PlaneView*, const MaskView&, const FilterChain&, const YuvFormat&,
                        const PlaneView*, int);

Status apply_lut(const ImageView&, const MaskView&, const LutView&, Interpolation, const ImageView&,
                 int);
Status apply_lut_yuv(const PlaneView*, const MaskView&, const LutView&, Interpolation,
                     const YuvFormat&, const PlaneView*, int);
Status apply_lut_backward(const ImageView&, const ImageView&, const MaskView&, const LutView&,
                          Interpolation, const ImageView&, const MaskView&, float*, int);
Status lut_splat(const ImageView&, const ImageView&, const MaskView&, int, bool, float*, int);

Status masked_moments(const ImageView&, const MaskView&, float*, float*, float*, int);
Status masked_moments_backward(const float*, const float*, const float*, const ImageView&,
                               const MaskView&, const float*, const float*, const float*,
                               const ImageView&, const MaskView&, int);

Status yuv_to_rgb(const PlaneView*, const YuvFormat&, const ImageView&, int);
Status rgb_to_yuv(const ImageView&, const YuvFormat&, const PlaneView*, int);
Status shrink_plane(const PlaneView&, const PlaneView&, int);

Status flow_warp(const TensorView&, const TensorView&, bool, const TensorView&, const TensorView&,
                 int);
Status flow_warp_backward(const TensorView&, const TensorView&, const TensorView&, bool,
                          const TensorView&, const TensorView&, int);
Status temporal_loss(const TensorView&, const TensorView&, const TensorView&, const MaskView&,
                     const MaskView&, float*, float*, int);
Status temporal_loss_backward(const float*, const TensorView&, const TensorView&, const TensorView&,
                              const MaskView&, const MaskView&, const TensorView&,
                              const TensorView&, const TensorView&, int);
Status flow_consistency(const TensorView&, const TensorView&, float, float, const TensorView&, int);

const Kernels& table() {
  static const Kernels kernels = {VHARM_TEXT(VHARM_ISA),
                                  filter_chain,
                                  filter_chain_backward,
                                  chain_means,
                                  chain_means_backward,
                                  filter_chain_loss,
                                  filter_chain_loss_backward,
                                  filter_chain_yuv,
                                  apply_lut,
                                  apply_lut_yuv,
                                  apply_lut_backward,
                                  lut_splat,
                                  masked_moments,
                                  masked_moments_backward,
                                  yuv_to_rgb,
                                  rgb_to_yuv,
                                  shrink_plane,
                                  flow_warp,
                                  flow_warp_backward,
                                  temporal_loss,
                                  temporal_loss_backward,
                                  flow_consistency};
  return kernels;
}

}  // namespace VHARM_ISA
}  // namespace vharm
