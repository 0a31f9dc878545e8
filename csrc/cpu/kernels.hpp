// SPDX-License-Identifier: Apache-2.0
// The entry points of one instruction set's code. csrc/cpu/kernels.cpp fills a table per
// instruction set, csrc/runtime/dispatch.cpp picks one when the program runs.
#pragma once

#include "vharm/attention.hpp"
#include "vharm/filters.hpp"
#include "vharm/lut.hpp"
#include "vharm/statistics.hpp"
#include "vharm/tokens.hpp"
#include "vharm/types.hpp"
#include "vharm/warp.hpp"
#include "vharm/yuv.hpp"

namespace vharm {

struct Kernels {
  const char* isa;
  decltype(&vharm::filter_chain) filter_chain;
  decltype(&vharm::filter_chain_backward) filter_chain_backward;
  decltype(&vharm::chain_means) chain_means;
  decltype(&vharm::chain_means_backward) chain_means_backward;
  decltype(&vharm::filter_chain_loss) filter_chain_loss;
  decltype(&vharm::filter_chain_loss_backward) filter_chain_loss_backward;
  decltype(&vharm::filter_chain_yuv) filter_chain_yuv;
  decltype(&vharm::apply_lut) apply_lut;
  decltype(&vharm::apply_lut_yuv) apply_lut_yuv;
  decltype(&vharm::apply_lut_backward) apply_lut_backward;
  decltype(&vharm::lut_splat) lut_splat;
  decltype(&vharm::masked_moments) masked_moments;
  decltype(&vharm::masked_moments_backward) masked_moments_backward;
  decltype(&vharm::masked_histogram) masked_histogram;
  decltype(&vharm::yuv_to_rgb) yuv_to_rgb;
  decltype(&vharm::rgb_to_yuv) rgb_to_yuv;
  decltype(&vharm::shrink_plane) shrink_plane;
  decltype(&vharm::plane_sums) plane_sums;
  decltype(&vharm::composite_yuv) composite_yuv;
  decltype(&vharm::flow_warp) flow_warp;
  decltype(&vharm::flow_warp_backward) flow_warp_backward;
  decltype(&vharm::temporal_loss) temporal_loss;
  decltype(&vharm::temporal_loss_backward) temporal_loss_backward;
  decltype(&vharm::flow_consistency) flow_consistency;
  decltype(&vharm::neighborhood_attention) neighborhood_attention;
  decltype(&vharm::neighborhood_attention_backward) neighborhood_attention_backward;
  decltype(&vharm::nonlocal_attention) nonlocal_attention;
  decltype(&vharm::nonlocal_attention_backward) nonlocal_attention_backward;
  decltype(&vharm::similarity_gate) similarity_gate;
  decltype(&vharm::similarity_gate_backward) similarity_gate_backward;
  decltype(&vharm::gated_mean) gated_mean;
  decltype(&vharm::gated_mean_backward) gated_mean_backward;
  decltype(&vharm::foreground_patches) foreground_patches;
  decltype(&vharm::pack_patches) pack_patches;
  decltype(&vharm::unpack_patches) unpack_patches;
  decltype(&vharm::patch_mask_gradient) patch_mask_gradient;
  decltype(&vharm::gram) gram;
  decltype(&vharm::gram_backward) gram_backward;
  decltype(&vharm::patch_balance) patch_balance;
  decltype(&vharm::patch_balance_backward) patch_balance_backward;
};

// The table in use: the best the processor can run, or VHARM_CPU_ISA (baseline, avx2, avx512).
const Kernels& kernels();
// Why VHARM_CPU_ISA could not be obeyed, or null.
const char* isa_problem();

namespace baseline {
const Kernels& table();
}
namespace avx2 {
const Kernels& table();
}
namespace avx512 {
const Kernels& table();
}

}  // namespace vharm
