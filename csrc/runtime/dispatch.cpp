// SPDX-License-Identifier: Apache-2.0
// Chooses the instruction set once, and forwards the public launchers to it.
#include <cstdlib>
#include <cstring>

#include "cpu/kernels.hpp"

namespace vharm {
namespace {

const char* g_problem = nullptr;

bool has_avx2() {
#if defined(VHARM_X86)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
#else
  return false;
#endif
}

bool has_avx512() {
#if defined(VHARM_X86)
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

const Kernels& pick() {
  const char* asked = std::getenv("VHARM_CPU_ISA");
#if defined(VHARM_X86)
  if (asked != nullptr && *asked != '\0') {
    if (std::strcmp(asked, "avx512") == 0 && has_avx512()) return avx512::table();
    if (std::strcmp(asked, "avx2") == 0 && has_avx2()) return avx2::table();
    if (std::strcmp(asked, "baseline") == 0) return baseline::table();
    g_problem = "VHARM_CPU_ISA names an instruction set that is unknown or not on this processor";
  }
  if (has_avx512()) return avx512::table();
  if (has_avx2()) return avx2::table();
#else
  if (asked != nullptr && *asked != '\0' && std::strcmp(asked, "baseline") != 0) {
    g_problem = "VHARM_CPU_ISA: this build holds only the baseline";
  }
#endif
  return baseline::table();
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = pick();
  return chosen;
}

const char* isa_problem() {
  kernels();
  return g_problem;
}

Status filter_chain(const ImageView& image, const MaskView& mask, const FilterChain& chain,
                    const ImageView& out, int threads) {
  return kernels().filter_chain(image, mask, chain, out, threads);
}

Status filter_chain_backward(const ImageView& grad, const ImageView& image, const MaskView& mask,
                             const FilterChain& chain, const ImageView& grad_image,
                             const MaskView& grad_mask, float* grad_arguments,
                             float* grad_statistics, int threads) {
  return kernels().filter_chain_backward(grad, image, mask, chain, grad_image, grad_mask,
                                         grad_arguments, grad_statistics, threads);
}

Status chain_means(const ImageView& image, const FilterChain& chain, float* means, int threads) {
  return kernels().chain_means(image, chain, means, threads);
}

Status chain_means_backward(const float* grad, const ImageView& image, const FilterChain& chain,
                            const ImageView& grad_image, float* grad_arguments,
                            float* grad_statistics, int threads) {
  return kernels().chain_means_backward(grad, image, chain, grad_image, grad_arguments,
                                        grad_statistics, threads);
}

Status filter_chain_loss(const ImageView& image, const MaskView& mask, const FilterChain& chain,
                         const ImageView& targets, int64_t target_stride, float* losses,
                         int threads) {
  return kernels().filter_chain_loss(image, mask, chain, targets, target_stride, losses, threads);
}

Status filter_chain_loss_backward(const float* grad, const ImageView& image, const MaskView& mask,
                                  const FilterChain& chain, const ImageView& targets,
                                  int64_t target_stride, const ImageView& grad_image,
                                  float* grad_arguments, float* grad_statistics, int threads) {
  return kernels().filter_chain_loss_backward(grad, image, mask, chain, targets, target_stride,
                                              grad_image, grad_arguments, grad_statistics, threads);
}

Status filter_chain_yuv(const PlaneView* planes, const MaskView& mask, const FilterChain& chain,
                        const YuvFormat& format, const PlaneView* out, int threads) {
  return kernels().filter_chain_yuv(planes, mask, chain, format, out, threads);
}

Status apply_lut(const ImageView& image, const MaskView& mask, const LutView& lut,
                 Interpolation interpolation, const ImageView& out, int threads) {
  return kernels().apply_lut(image, mask, lut, interpolation, out, threads);
}

Status apply_lut_yuv(const PlaneView* planes, const MaskView& mask, const LutView& lut,
                     Interpolation interpolation, const YuvFormat& format, const PlaneView* out,
                     int threads) {
  return kernels().apply_lut_yuv(planes, mask, lut, interpolation, format, out, threads);
}

Status apply_lut_backward(const ImageView& grad, const ImageView& image, const MaskView& mask,
                          const LutView& lut, Interpolation interpolation,
                          const ImageView& grad_image, const MaskView& grad_mask, float* grad_lut,
                          int threads) {
  return kernels().apply_lut_backward(grad, image, mask, lut, interpolation, grad_image, grad_mask,
                                      grad_lut, threads);
}

Status lut_splat(const ImageView& source, const ImageView& target, const MaskView& mask, int size,
                 bool offset, float* sums, int threads) {
  return kernels().lut_splat(source, target, mask, size, offset, sums, threads);
}

Status masked_moments(const ImageView& image, const MaskView& mask, float* mean, float* covariance,
                      float* weight, int threads) {
  return kernels().masked_moments(image, mask, mean, covariance, weight, threads);
}

Status masked_moments_backward(const float* grad_mean, const float* grad_covariance,
                               const float* grad_weight, const ImageView& image,
                               const MaskView& mask, const float* mean, const float* covariance,
                               const float* weight, const ImageView& grad_image,
                               const MaskView& grad_mask, int threads) {
  return kernels().masked_moments_backward(grad_mean, grad_covariance, grad_weight, image, mask,
                                           mean, covariance, weight, grad_image, grad_mask,
                                           threads);
}

Status masked_histogram(const ImageView& image, const MaskView& mask, int bins, float* out,
                        int threads) {
  return kernels().masked_histogram(image, mask, bins, out, threads);
}

Status yuv_to_rgb(const PlaneView* planes, const YuvFormat& format, const ImageView& rgb,
                  int threads) {
  return kernels().yuv_to_rgb(planes, format, rgb, threads);
}

Status rgb_to_yuv(const ImageView& rgb, const YuvFormat& format, const PlaneView* planes,
                  int threads) {
  return kernels().rgb_to_yuv(rgb, format, planes, threads);
}

Status composite_yuv(const PlaneView* foreground, const PlaneView* background, const MaskView& mask,
                     const YuvFormat& format, bool premultiplied, const PlaneView* out,
                     int threads) {
  return kernels().composite_yuv(foreground, background, mask, format, premultiplied, out, threads);
}

Status shrink_plane(const PlaneView& plane, const PlaneView& out, int threads) {
  return kernels().shrink_plane(plane, out, threads);
}

Status plane_sums(const PlaneView* planes, int count, const PlaneView& mask, float black,
                  int64_t step, int log2_x, int log2_y, double* sums) {
  return kernels().plane_sums(planes, count, mask, black, step, log2_x, log2_y, sums);
}

Status flow_warp(const TensorView& image, const TensorView& flow, bool border,
                 const TensorView& out, const TensorView& valid, int threads) {
  return kernels().flow_warp(image, flow, border, out, valid, threads);
}

Status flow_warp_backward(const TensorView& grad, const TensorView& image, const TensorView& flow,
                          bool border, const TensorView& grad_image, const TensorView& grad_flow,
                          int threads) {
  return kernels().flow_warp_backward(grad, image, flow, border, grad_image, grad_flow, threads);
}

Status temporal_loss(const TensorView& current, const TensorView& previous, const TensorView& flow,
                     const MaskView& mask, const MaskView& valid, float* loss, float* weight,
                     int threads) {
  return kernels().temporal_loss(current, previous, flow, mask, valid, loss, weight, threads);
}

Status temporal_loss_backward(const float* scale, const TensorView& current,
                              const TensorView& previous, const TensorView& flow,
                              const MaskView& mask, const MaskView& valid,
                              const TensorView& grad_current, const TensorView& grad_previous,
                              const TensorView& grad_flow, int threads) {
  return kernels().temporal_loss_backward(scale, current, previous, flow, mask, valid, grad_current,
                                          grad_previous, grad_flow, threads);
}

Status flow_consistency(const TensorView& forward, const TensorView& backward, float alpha,
                        float beta, const TensorView& out, int threads) {
  return kernels().flow_consistency(forward, backward, alpha, beta, out, threads);
}

Status neighborhood_attention(const TensorView& q, const TensorView& k, const TensorView& v,
                              const MaskView& mask, const MaskView& key_mask, int64_t window,
                              int heads, float scale, const TensorView& out, float* lse,
                              int threads) {
  return kernels().neighborhood_attention(q, k, v, mask, key_mask, window, heads, scale, out, lse,
                                          threads);
}

Status neighborhood_attention_backward(const TensorView& grad, const TensorView& q,
                                       const TensorView& k, const TensorView& v,
                                       const MaskView& mask, const MaskView& key_mask,
                                       const float* lse, int64_t window, int heads, float scale,
                                       float* inner, const TensorView& grad_q,
                                       const TensorView& grad_k, const TensorView& grad_v,
                                       int threads) {
  return kernels().neighborhood_attention_backward(grad, q, k, v, mask, key_mask, lse, window,
                                                   heads, scale, inner, grad_q, grad_k, grad_v,
                                                   threads);
}

Status nonlocal_attention(const TensorView& q, const TensorView& k, const TensorView& v,
                          const Positions& queries, const Positions& keys, int heads, float scale,
                          const TensorView& out, float* lse, int threads) {
  return kernels().nonlocal_attention(q, k, v, queries, keys, heads, scale, out, lse, threads);
}

Status nonlocal_attention_backward(const TensorView& grad, const TensorView& q, const TensorView& k,
                                   const TensorView& v, const Positions& queries,
                                   const Positions& keys, const TensorView& out, const float* lse,
                                   int heads, float scale, float* inner, const TensorView& grad_q,
                                   const TensorView& grad_k, const TensorView& grad_v,
                                   int threads) {
  return kernels().nonlocal_attention_backward(grad, q, k, v, queries, keys, out, lse, heads, scale,
                                               inner, grad_q, grad_k, grad_v, threads);
}

Status similarity_gate(const TensorView& theta, const TensorView& phi, const TensorView& feature,
                       const MaskView& mask, const TensorView& out, int threads) {
  return kernels().similarity_gate(theta, phi, feature, mask, out, threads);
}

Status similarity_gate_backward(const TensorView& grad, const TensorView& theta,
                                const TensorView& phi, const TensorView& feature,
                                const MaskView& mask, const TensorView& grad_theta,
                                const TensorView& grad_phi, const TensorView& grad_feature,
                                const TensorView& grad_mask, int threads) {
  return kernels().similarity_gate_backward(grad, theta, phi, feature, mask, grad_theta, grad_phi,
                                            grad_feature, grad_mask, threads);
}

Status gated_mean(const StackView& neighbours, const TensorView& own, const MaskView& mask,
                  const StackView& out, int threads) {
  return kernels().gated_mean(neighbours, own, mask, out, threads);
}

Status gated_mean_backward(const StackView& grad, const StackView& neighbours,
                           const TensorView& own, const MaskView& mask,
                           const StackView& grad_neighbours, const TensorView& grad_own,
                           const TensorView& grad_mask, int threads) {
  return kernels().gated_mean_backward(grad, neighbours, own, mask, grad_neighbours, grad_own,
                                       grad_mask, threads);
}

Status foreground_patches(const TensorView& mask, int patch, uint8_t* out, int threads) {
  return kernels().foreground_patches(mask, patch, out, threads);
}

Status pack_patches(const TensorView& image, const int64_t* index, int64_t count,
                    const MaskView& mask, int patch, const TokenView& tokens, int threads) {
  return kernels().pack_patches(image, index, count, mask, patch, tokens, threads);
}

Status unpack_patches(const TokenView& tokens, const int64_t* slots, const TensorView& image,
                      const MaskView& mask, int patch, const TensorView& out, int threads) {
  return kernels().unpack_patches(tokens, slots, image, mask, patch, out, threads);
}

Status patch_mask_gradient(const TensorView& grad, const TokenView& tokens, const int64_t* index,
                           int64_t count, const TensorView& image, const MaskView& mask, int patch,
                           const TensorView& grad_mask, int threads) {
  return kernels().patch_mask_gradient(grad, tokens, index, count, image, mask, patch, grad_mask,
                                       threads);
}

Status gram(const float* tokens, const int32_t* cu_seqlens, int64_t sequences, int64_t c,
            float* out, int threads) {
  return kernels().gram(tokens, cu_seqlens, sequences, c, out, threads);
}

Status gram_backward(const float* square, const float* tokens, const int32_t* cu_seqlens,
                     int64_t sequences, int64_t c, float* grad_tokens, int threads) {
  return kernels().gram_backward(square, tokens, cu_seqlens, sequences, c, grad_tokens, threads);
}

Status patch_balance(const ImageView& image, double factor, float* out, int threads) {
  return kernels().patch_balance(image, factor, out, threads);
}

Status patch_balance_backward(const float* grad, const ImageView& image, double factor,
                              const ImageView& grad_image, int threads) {
  return kernels().patch_balance_backward(grad, image, factor, grad_image, threads);
}

}  // namespace vharm
