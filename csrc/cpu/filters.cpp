// SPDX-License-Identifier: Apache-2.0
// Filter chains applied to images and to YUV frames.
#include "cpu/filters.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

void run_span(const void* self, int64_t image, float* r, float* g, float* b, int n) {
  const auto& chain = *static_cast<const FilterChain*>(self);
  Stage stages[kMaxFilters];
  make_stages(chain, image, stages);
  run_chain(stages, chain.k, r, g, b, n);
}

// A single image's chain, with what is computed of its arguments before the pixels.
struct Prepared {
  Stage stages[kMaxFilters];
  int k;
};

void run_prepared(const void* self, int64_t, float* r, float* g, float* b, int n) {
  const auto& chain = *static_cast<const Prepared*>(self);
  run_chain(chain.stages, chain.k, r, g, b, n);
}

}  // namespace

Status filter_chain(const ImageView& image, const MaskView& mask, const FilterChain& chain,
                    const ImageView& out, int threads) {
  if (chain.k > kMaxFilters) return Status::unsupported;
  return apply_image({run_span, &chain}, image, mask, out, threads);
}

Status filter_chain_yuv(const PlaneView* planes, const MaskView& mask, const FilterChain& chain,
                        const YuvFormat& format, const PlaneView* out, int threads) {
  if (chain.k > kMaxFilters) return Status::unsupported;
  Prepared prepared;
  prepared.k = chain.k;
  make_stages(chain, 0, prepared.stages);
  return apply_yuv({run_prepared, &prepared}, planes, mask, format, out, threads);
}

}  // namespace VHARM_ISA
}  // namespace vharm
