// SPDX-License-Identifier: Apache-2.0
// Global means of a chain's output, and the losses of its stages.
#include "cuda/loss.cuh"
#include "cuda/reduce.cuh"

namespace vharm::cuda {
namespace {

// ---- means --------------------------------------------------------------------------------------

struct MeansCall {
  ImageView image;
  DeviceChain chain;
  Walk walk;
  double* partials;  // [n, blocks, 3]
};

template <class Pixels>
VHARM_HD void means_group(const MeansCall& call, const AnyChain& chain, int64_t n, int64_t y,
                          int64_t x, int count, Real* sums) {
  Pixels pixels;
  Rgb<Real> v[kPixels];
  pixels.load(call.image, offset_of(call.image, n, y, x), count);
  to_rgb(pixels, call.image.dtype, v);
  run_chain<kPixels>(chain, v);
#pragma unroll
  for (int i = 0; i < kPixels; ++i) {
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      if (i < count) sums[c] = sums[c] + channel(v[i], c);
    }
  }
}

template <class Pixels>
__global__ void __launch_bounds__(kThreads) means_kernel(const __grid_constant__ MeansCall call) {
  __shared__ Stage stages[kMaxFilters];
  const int64_t n = blockIdx.x / call.walk.blocks, block = blockIdx.x % call.walk.blocks;
  fill_stages(call.chain, n, stages);
  const AnyChain chain(call.chain, stages);
  Real sums[3] = {Real(0.0f), Real(0.0f), Real(0.0f)};
  each_group(call.walk, block, threadIdx.x, [&](int64_t y, int64_t x, int count) {
    means_group<Pixels>(call, chain, n, y, x, count, sums);
  });
  write_partials<3, 3>(sums, 3, call.partials + int64_t(blockIdx.x) * 3);
}

struct MeansTotal {
  const double* partials;
  int blocks;
  double pixels;
  float* means;  // [n, 3]
};

__global__ void __launch_bounds__(kThreads)
    means_total_kernel(const __grid_constant__ MeansTotal call) {
  __shared__ double totals[3];
  const int64_t n = blockIdx.x;
  image_totals(call.partials + n * call.blocks * 3, call.blocks, 3, totals);
  const int c = static_cast<int>(threadIdx.x);
  if (c < 3) call.means[3 * n + c] = static_cast<float>(totals[c] / call.pixels);
}

// ---- losses -------------------------------------------------------------------------------------

struct LossCall {
  ImageView image;
  Mask mask;
  DeviceChain chain;
  Targets targets;
  Walk walk;
  double* partials;  // [n, blocks, k + 1], the last the mask's sum
};

template <class Chain>
VHARM_HD void loss_pixel(const LossCall& call, const Chain& chain, int64_t n, int64_t y, int64_t x,
                         Real* sums) {
  const Real m = mask_at(call.mask, offset_of(call.mask.view, n, y, x));
  if (!less(Real(0.0f), m)) return;
  Rgb<Real> v = clamped(load_rgb(call.image, offset_of(call.image, n, y, x)));
  int64_t at = offset_of(call.targets.view, n, y, x);
#pragma unroll Chain::kUnroll
  for (int i = 0; i < chain.size(); ++i) {
    v = stage_forward(chain.stage(i), v);
    const Rgb<Real> wanted = load_rgb(call.targets.view, at);
    const Real total = loss_term(v.r - wanted.r).value + loss_term(v.g - wanted.g).value +
                       loss_term(v.b - wanted.b).value;
    sums[i] = vfma(m, total, sums[i]);
    at += call.targets.stride;
  }
  sums[chain.size()] = sums[chain.size()] + m;
}

template <class Chain>
__global__ void __launch_bounds__(kThreads) loss_kernel(const __grid_constant__ LossCall call) {
  __shared__ Stage stages[kMaxFilters];
  const int64_t n = blockIdx.x / call.walk.blocks, block = blockIdx.x % call.walk.blocks;
  fill_stages(call.chain, n, stages);
  const Chain chain(call.chain, stages);
  const int slots = chain.size() + 1;
  Real sums[Chain::kCapacity + 1];
#pragma unroll
  for (int s = 0; s <= Chain::kCapacity; ++s) sums[s] = Real(0.0f);
  each_group(call.walk, block, threadIdx.x,
             [&](int64_t y, int64_t x, int) { loss_pixel(call, chain, n, y, x, sums); });
  write_partials<Chain::kCapacity + 1, Chain::kUnroll + 1>(
      sums, slots, call.partials + int64_t(blockIdx.x) * slots);
}

struct LossTotal {
  const double* partials;
  int blocks, k;
  float* losses;  // [n, k]
};

__global__ void __launch_bounds__(kThreads)
    loss_total_kernel(const __grid_constant__ LossTotal call) {
  __shared__ double totals[kMaxFilters + 1];
  const int64_t n = blockIdx.x;
  const int slots = call.k + 1, s = static_cast<int>(threadIdx.x);
  image_totals(call.partials + n * call.blocks * slots, call.blocks, slots, totals);
  if (s < call.k) {
    call.losses[n * call.k + s] = static_cast<float>(totals[s] / (totals[call.k] + 1e-6));
  }
}

}  // namespace

Status chain_means(const ImageView& image, const FilterChain& chain, float* means, void* stream) {
  if (chain.k > kMaxFilters) return Status::unsupported;
  if (is_empty(image)) return Status::ok;
  const Walk walk = plan(image, kPixels);
  const Workspace space(image.n * walk.blocks * 3, stream);
  if (space.status() != Status::ok) return space.status();
  const MeansCall call{image, device_chain(chain), walk, space.data()};
  const Status status = with_pixels(image, layout_of(image, walk), [&](auto pixels) {
    return launch(means_kernel<decltype(pixels)>, call, image.n * walk.blocks, stream);
  });
  if (status != Status::ok) return status;
  const MeansTotal total{space.data(), walk.blocks, double(image.h) * double(image.w), means};
  return launch(means_total_kernel, total, image.n, stream);
}

Status filter_chain_loss(const ImageView& image, const MaskView& mask, const FilterChain& chain,
                         const ImageView& targets, int64_t target_stride, float* losses,
                         void* stream) {
  if (chain.k > kMaxFilters) return Status::unsupported;
  if (is_empty(image) || chain.k == 0) return Status::ok;
  const Walk walk = plan(image, 1, mask, targets);
  const Workspace space(image.n * walk.blocks * (chain.k + 1), stream);
  if (space.status() != Status::ok) return space.status();
  const LossCall call{image,
                      prepared(mask, image.n, walk),
                      device_chain(chain),
                      {targets, target_stride},
                      walk,
                      space.data()};
  const auto kernel = is_default(chain) ? loss_kernel<DefaultChain> : loss_kernel<AnyChain>;
  const Status status = launch(kernel, call, image.n * walk.blocks, stream);
  if (status != Status::ok) return status;
  const LossTotal total{space.data(), walk.blocks, chain.k, losses};
  return launch(loss_total_kernel, total, image.n, stream);
}

}  // namespace vharm::cuda
