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
Status masked_histogram(const ImageView&, const MaskView&, int, float*, int);

Status yuv_to_rgb(const PlaneView*, const YuvFormat&, const ImageView&, int);
Status rgb_to_yuv(const ImageView&, const YuvFormat&, const PlaneView*, int);
Status shrink_plane(const PlaneView&, const PlaneView&, int);
Status plane_sums(const PlaneView*, int, const PlaneView&, float, int64_t, int, int, double*);
Status composite_yuv(const PlaneView*, const PlaneView*, const MaskView&, const YuvFormat&, bool,
                     const PlaneView*, int);

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

Status neighborhood_attention(const TensorView&, const TensorView&, const TensorView&,
                              const MaskView&, const MaskView&, int64_t, int, float,
                              const TensorView&, float*, int);
Status neighborhood_attention_backward(const TensorView&, const TensorView&, const TensorView&,
                                       const TensorView&, const MaskView&, const MaskView&,
                                       const float*, int64_t, int, float, float*, const TensorView&,
                                       const TensorView&, const TensorView&, int);
Status nonlocal_attention(const TensorView&, const TensorView&, const TensorView&, const Positions&,
                          const Positions&, int, float, const TensorView&, float*, int);
Status nonlocal_attention_backward(const TensorView&, const TensorView&, const TensorView&,
                                   const TensorView&, const Positions&, const Positions&,
                                   const TensorView&, const float*, int, float, float*,
                                   const TensorView&, const TensorView&, const TensorView&, int);
Status similarity_gate(const TensorView&, const TensorView&, const TensorView&, const MaskView&,
                       const TensorView&, int);
Status similarity_gate_backward(const TensorView&, const TensorView&, const TensorView&,
                                const TensorView&, const MaskView&, const TensorView&,
                                const TensorView&, const TensorView&, const TensorView&, int);
Status gated_mean(const StackView&, const TensorView&, const MaskView&, const StackView&, int);
Status gated_mean_backward(const StackView&, const StackView&, const TensorView&, const MaskView&,
                           const StackView&, const TensorView&, const TensorView&, int);

Status foreground_patches(const TensorView&, int, uint8_t*, int);
Status pack_patches(const TensorView&, const int64_t*, int64_t, const MaskView&, int,
                    const TokenView&, int);
Status unpack_patches(const TokenView&, const int64_t*, const TensorView&, const MaskView&, int,
                      const TensorView&, int);
Status patch_mask_gradient(const TensorView&, const TokenView&, const int64_t*, int64_t,
                           const TensorView&, const MaskView&, int, const TensorView&, int);

Status gram(const float*, const int32_t*, int64_t, int64_t, float*, int);
Status gram_backward(const float*, const float*, const int32_t*, int64_t, int64_t, float*, int);
Status patch_balance(const ImageView&, double, float*, int);
Status patch_balance_backward(const float*, const ImageView&, double, const ImageView&, int);

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
                                  masked_histogram,
                                  yuv_to_rgb,
                                  rgb_to_yuv,
                                  shrink_plane,
                                  plane_sums,
                                  composite_yuv,
                                  flow_warp,
                                  flow_warp_backward,
                                  temporal_loss,
                                  temporal_loss_backward,
                                  flow_consistency,
                                  neighborhood_attention,
                                  neighborhood_attention_backward,
                                  nonlocal_attention,
                                  nonlocal_attention_backward,
                                  similarity_gate,
                                  similarity_gate_backward,
                                  gated_mean,
                                  gated_mean_backward,
                                  foreground_patches,
                                  pack_patches,
                                  unpack_patches,
                                  patch_mask_gradient,
                                  gram,
                                  gram_backward,
                                  patch_balance,
                                  patch_balance_backward};
  return kernels;
}

}  // namespace VHARM_ISA
}  // namespace vharm
