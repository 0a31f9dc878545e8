// SPDX-License-Identifier: Apache-2.0
// Filter chains applied to images, blended by a mask.
#include "cuda/launch.cuh"

namespace vharm::cuda {
namespace {

struct ChainCall {
  ImageView image, out;
  Mask mask;
  DeviceChain chain;
  Walk walk;
};

// out = original + m * (changed - original), and the original itself where m is 0.
VHARM_HD void blend(const Rgb<Real>& original, Real m, Rgb<Real>& changed) {
  const Real minus(-1.0f);
  changed.r = vfma(m, changed.r, vfma(m, minus * original.r, original.r));
  changed.g = vfma(m, changed.g, vfma(m, minus * original.g, original.g));
  changed.b = vfma(m, changed.b, vfma(m, minus * original.b, original.b));
}

template <class Pixels, class Chain>
VHARM_HD void filter_group(const ChainCall& call, const Chain& chain, int64_t n, int64_t y,
                           int64_t x, int count) {
  Pixels pixels;
  Real m[kPixels];
  pixels.load(call.image, offset_of(call.image, n, y, x), count);
  // Warps whose pixels are all outside the mask skip the chain.
  if (load_mask(call.mask, offset_of(call.mask.view, n, y, x), count, m)) {
    Rgb<Real> original[kPixels], changed[kPixels];
    to_rgb(pixels, call.image.dtype, original);
#pragma unroll
    for (int i = 0; i < kPixels; ++i) changed[i] = original[i];
    run_chain<kPixels>(chain, changed);
#pragma unroll
    for (int i = 0; i < kPixels; ++i) blend(original[i], m[i], changed[i]);
    replace(pixels, call.image.dtype, changed, m);
  }
  pixels.store(call.out, offset_of(call.out, n, y, x), count);
}

template <class Pixels, class Chain>
__global__ void __launch_bounds__(kThreads) chain_kernel(const __grid_constant__ ChainCall call) {
  __shared__ Stage stages[kMaxFilters];
  const int64_t n = blockIdx.x / call.walk.blocks, block = blockIdx.x % call.walk.blocks;
  fill_stages(call.chain, n, stages);
  const Chain chain(call.chain, stages);
  each_group(call.walk, block, threadIdx.x, [&](int64_t y, int64_t x, int count) {
    filter_group<Pixels>(call, chain, n, y, x, count);
  });
}

}  // namespace

Status filter_chain(const ImageView& image, const MaskView& mask, const FilterChain& chain,
                    const ImageView& out, void* stream) {
  if (chain.k > kMaxFilters || image.dtype != out.dtype) return Status::unsupported;
  if (is_empty(image)) return Status::ok;
  const Walk walk = plan(image, kPixels, mask, out);
  const ChainCall call{image, out, prepared(mask, image.n, walk), device_chain(chain), walk};
  const Layout layout = layout_of(image, walk);
  const bool same = layout == layout_of(out, walk);
  return with_pixels(image, same ? layout : Layout::strided, [&](auto pixels) {
    using Pixels = decltype(pixels);
    const bool known = is_default(chain);
    return launch(known ? chain_kernel<Pixels, DefaultChain> : chain_kernel<Pixels, AnyChain>, call,
                  image.n * walk.blocks, stream);
  });
}

}  // namespace vharm::cuda
