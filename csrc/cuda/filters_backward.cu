// SPDX-License-Identifier: Apache-2.0
// Gradients of filter chains: of their blended output, of their means and of their losses.
//
// A thread takes one pixel at a time, keeps every stage's input, and walks back. Coefficients'
// gradients are summed as csrc/cuda/reduce.cuh says, then carried to arguments and means.
#include "cuda/loss.cuh"
#include "cuda/reduce.cuh"

namespace vharm::cuda {
namespace {

// ---- shared by the three ------------------------------------------------------------------------

// What every one of them reads and writes.
struct Pull {
  ImageView image, grad_image;  // grad_image.data may be null
  DeviceChain chain;
  Walk walk;
  double* partials;  // [n, blocks, slot_count]
};

// The gradient that reaches the raw image through the chain. `enter(i, value, grad)` adds to grad
// what enters at value, the output of stage i (of the clamp, i == -1).
template <class Chain, class Enter>
VHARM_HD Rgb<Real> pull_pixel(const Chain& chain, Rgb<Real> raw, Real* sums, const Enter& enter) {
  Rgb<Real> records[Chain::kCapacity + 1];
  records[0] = clamped(raw);
#pragma unroll Chain::kUnroll
  for (int i = 0; i < chain.size(); ++i) {
    records[i + 1] = stage_forward(chain.stage(i), records[i]);
  }
  Rgb<Real> grad{Real(0.0f), Real(0.0f), Real(0.0f)};
#pragma unroll Chain::kUnroll
  for (int i = chain.size(); i > 0; --i) {
    enter(i - 1, records[i], grad);
    grad = stage_backward_pixel(chain.stage(i - 1), records[i - 1], grad, sums + chain.slot(i - 1));
  }
  if (chain.size() == 0) enter(-1, records[0], grad);
  return {through_clamp(raw.r, grad.r), through_clamp(raw.g, grad.g), through_clamp(raw.b, grad.b)};
}

// pixel(chain, n, y, x, sums) for every pixel of the block, and the block's partial sums.
template <class Chain, class Pixel>
__device__ __forceinline__ void pull_block(const Pull& pull, const Pixel& pixel) {
  __shared__ Stage stages[kMaxFilters];
  const int64_t n = blockIdx.x / pull.walk.blocks, block = blockIdx.x % pull.walk.blocks;
  fill_stages(pull.chain, n, stages);
  const Chain chain(pull.chain, stages);
  Real sums[Chain::kSlots];
#pragma unroll Chain::kSlotUnroll
  for (int s = 0; s < chain.slot_count(); ++s) sums[s] = Real(0.0f);
  each_group(pull.walk, block, threadIdx.x,
             [&](int64_t y, int64_t x, int) { pixel(chain, n, y, x, sums); });
  if (chain.slot_count() == 0) return;
  write_partials<Chain::kSlots, Chain::kSlotUnroll>(
      sums, chain.slot_count(), pull.partials + int64_t(blockIdx.x) * chain.slot_count());
}

struct PullTotal {
  DeviceChain chain;
  const double* partials;
  int blocks;
  float* grad_arguments;   // [n, k]
  float* grad_statistics;  // [n, k, 3]
};

__global__ void __launch_bounds__(kThreads)
    pull_total_kernel(const __grid_constant__ PullTotal call) {
  __shared__ double totals[kMaxFilters * kCoefficients];
  const int64_t n = blockIdx.x;
  const int slots = call.chain.slot_count, i = static_cast<int>(threadIdx.x);
  image_totals(call.partials + n * call.blocks * slots, call.blocks, slots, totals);
  if (i >= call.chain.k) return;
  const int64_t at = n * call.chain.k + i;
  const auto filter = static_cast<Filter>(call.chain.codes[i]);
  StageGradient gradient{};
  const int end = i + 1 < call.chain.k ? call.chain.slots[i + 1] : slots;
  for (int s = call.chain.slots[i]; s < end; ++s) gradient.c[s - call.chain.slots[i]] = totals[s];
  double x, means[3];
  stage_backward(filter, call.chain.arguments[at], call.chain.statistics + 3 * at,
                 call.chain.quantized, gradient, &x, means);
  call.grad_arguments[at] = static_cast<float>(x);
  for (int c = 0; c < 3; ++c) call.grad_statistics[3 * at + c] = static_cast<float>(means[c]);
}

Status finish(const Pull& pull, float* grad_arguments, float* grad_statistics, void* stream) {
  if (pull.chain.k == 0) return Status::ok;
  const PullTotal call{pull.chain, pull.partials, pull.walk.blocks, grad_arguments,
                       grad_statistics};
  return launch(pull_total_kernel, call, pull.image.n, stream);
}

// ---- of the blended output ----------------------------------------------------------------------

struct ChainPull {
  Pull pull;
  ImageView grad;
  Mask mask;
  MaskView grad_mask;  // data may be null
};

VHARM_HD void store_mask_grad(const MaskView& grad_mask, int64_t at, Real value) {
  with_dtype(grad_mask.dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
    store_bits(grad_mask.data, sample_size(kType), at, encode<kType>(value));
  });
}

template <class Chain>
VHARM_HD void chain_pixel(const ChainPull& call, const Chain& chain, int64_t n, int64_t y,
                          int64_t x, Real* sums) {
  const Real m = mask_at(call.mask, offset_of(call.mask.view, n, y, x));
  const Rgb<Real> up = load_rgb(call.grad, offset_of(call.grad, n, y, x));
  Rgb<Real> through{Real(0.0f), Real(0.0f), Real(0.0f)};
  Real mask_slope(0.0f);
  // Where the mask is 0 the output is the input itself, whatever the mask's slope.
  if (less(Real(0.0f), m)) {
    const Rgb<Real> raw = load_rgb(call.pull.image, offset_of(call.pull.image, n, y, x));
    const int last = chain.size() - 1;
    through = pull_pixel(chain, raw, sums, [&](int stage, const Rgb<Real>& v, Rgb<Real>& grad) {
      if (stage != last) return;
      grad = {up.r * m, up.g * m, up.b * m};
      mask_slope = up.r * (v.r - raw.r) + up.g * (v.g - raw.g) + up.b * (v.b - raw.b);
    });
  }
  if (call.pull.grad_image.data != nullptr) {
    const Real rest = Real(1.0f) - m;
    store_rgb(
        call.pull.grad_image, offset_of(call.pull.grad_image, n, y, x),
        {vfma(up.r, rest, through.r), vfma(up.g, rest, through.g), vfma(up.b, rest, through.b)});
  }
  if (call.grad_mask.data != nullptr) {
    store_mask_grad(call.grad_mask, offset_of(call.grad_mask, n, y, x),
                    mask_slope * Real(call.mask.view.strength));
  }
}

template <class Chain>
__global__ void __launch_bounds__(kThreads)
    chain_pull_kernel(const __grid_constant__ ChainPull call) {
  pull_block<Chain>(call.pull, [&](const Chain& chain, int64_t n, int64_t y, int64_t x,
                                   Real* sums) { chain_pixel(call, chain, n, y, x, sums); });
}

// ---- of the means -------------------------------------------------------------------------------

struct MeansPull {
  Pull pull;
  const float* grad;  // [n, 3]
  double pixels;
};

VHARM_HD void means_pixel(const MeansPull& call, const AnyChain& chain, int64_t n, int64_t y,
                          int64_t x, const Rgb<Real>& share, Real* sums) {
  const Rgb<Real> raw = load_rgb(call.pull.image, offset_of(call.pull.image, n, y, x));
  const int last = chain.size() - 1;
  const Rgb<Real> through =
      pull_pixel(chain, raw, sums, [&](int stage, const Rgb<Real>&, Rgb<Real>& grad) {
        if (stage == last) grad = share;
      });
  if (call.pull.grad_image.data == nullptr) return;
  store_rgb(call.pull.grad_image, offset_of(call.pull.grad_image, n, y, x), through);
}

__global__ void __launch_bounds__(kThreads)
    means_pull_kernel(const __grid_constant__ MeansPull call) {
  const float* grad = call.grad + 3 * int64_t(blockIdx.x / call.pull.walk.blocks);
  const Rgb<Real> share{Real(static_cast<float>(grad[0] / call.pixels)),
                        Real(static_cast<float>(grad[1] / call.pixels)),
                        Real(static_cast<float>(grad[2] / call.pixels))};
  pull_block<AnyChain>(call.pull,
                       [&](const AnyChain& chain, int64_t n, int64_t y, int64_t x, Real* sums) {
                         means_pixel(call, chain, n, y, x, share, sums);
                       });
}

// ---- of the losses ------------------------------------------------------------------------------

struct WeightCall {
  Mask mask;
  Walk walk;
  double* partials;  // [n, blocks]
};

__global__ void __launch_bounds__(kThreads) weight_kernel(const __grid_constant__ WeightCall call) {
  const int64_t n = blockIdx.x / call.walk.blocks, block = blockIdx.x % call.walk.blocks;
  Real sum(0.0f);
  each_group(call.walk, block, threadIdx.x, [&](int64_t y, int64_t x, int) {
    const Real m = mask_at(call.mask, offset_of(call.mask.view, n, y, x));
    if (less(Real(0.0f), m)) sum = sum + m;
  });
  write_partials<1, 1>(&sum, 1, call.partials + blockIdx.x);
}

struct WeightTotal {
  const double* partials;
  int blocks;
  double* weights;  // [n]
};

__global__ void __launch_bounds__(kThreads)
    weight_total_kernel(const __grid_constant__ WeightTotal call) {
  __shared__ double total[1];
  const int64_t n = blockIdx.x;
  image_totals(call.partials + n * call.blocks, call.blocks, 1, total);
  if (threadIdx.x == 0) call.weights[n] = total[0];
}

struct LossPull {
  Pull pull;
  Mask mask;
  Targets targets;
  const float* grad;      // [n, k]
  const double* weights;  // [n]
};

template <class Chain>
VHARM_HD void loss_pixel(const LossPull& call, const Chain& chain, int64_t n, int64_t y, int64_t x,
                         const float* factors, Real* sums) {
  const Real m = mask_at(call.mask, offset_of(call.mask.view, n, y, x));
  Rgb<Real> through{Real(0.0f), Real(0.0f), Real(0.0f)};
  if (less(Real(0.0f), m)) {
    const Rgb<Real> raw = load_rgb(call.pull.image, offset_of(call.pull.image, n, y, x));
    const int64_t at = offset_of(call.targets.view, n, y, x);
    through = pull_pixel(chain, raw, sums, [&](int stage, const Rgb<Real>& v, Rgb<Real>& grad) {
      if (stage < 0) return;
      const Rgb<Real> wanted = load_rgb(call.targets.view, at + stage * call.targets.stride);
      const Real weight = Real(factors[stage]) * m;
      grad.r = vfma(weight, loss_term(v.r - wanted.r).slope, grad.r);
      grad.g = vfma(weight, loss_term(v.g - wanted.g).slope, grad.g);
      grad.b = vfma(weight, loss_term(v.b - wanted.b).slope, grad.b);
    });
  }
  if (call.pull.grad_image.data == nullptr) return;
  store_rgb(call.pull.grad_image, offset_of(call.pull.grad_image, n, y, x), through);
}

template <class Chain>
__global__ void __launch_bounds__(kThreads)
    loss_pull_kernel(const __grid_constant__ LossPull call) {
  __shared__ float factors[kMaxFilters];
  const int64_t image = blockIdx.x / call.pull.walk.blocks;
  const int i = static_cast<int>(threadIdx.x), k = call.pull.chain.k;
  // pull_block waits for all threads before any reads them.
  if (i < k) {
    factors[i] = static_cast<float>(call.grad[image * k + i] / (call.weights[image] + 1e-6));
  }
  pull_block<Chain>(call.pull,
                    [&](const Chain& chain, int64_t n, int64_t y, int64_t x, Real* sums) {
                      loss_pixel(call, chain, n, y, x, factors, sums);
                    });
}

}  // namespace

Status filter_chain_backward(const ImageView& grad, const ImageView& image, const MaskView& mask,
                             const FilterChain& chain, const ImageView& grad_image,
                             const MaskView& grad_mask, float* grad_arguments,
                             float* grad_statistics, void* stream) {
  if (chain.k > kMaxFilters) return Status::unsupported;
  if (is_empty(image)) return Status::ok;
  const Walk walk = plan(image, 1, grad, mask, grad_image, grad_mask);
  const DeviceChain codes = device_chain(chain);
  const Workspace space(image.n * walk.blocks * codes.slot_count, stream);
  if (space.status() != Status::ok) return space.status();
  const ChainPull call{{image, grad_image, codes, walk, space.data()},
                       grad,
                       prepared(mask, image.n, walk),
                       grad_mask};
  const Status status =
      launch(is_default(chain) ? chain_pull_kernel<DefaultChain> : chain_pull_kernel<AnyChain>,
             call, image.n * walk.blocks, stream);
  if (status != Status::ok) return status;
  return finish(call.pull, grad_arguments, grad_statistics, stream);
}

Status chain_means_backward(const float* grad, const ImageView& image, const FilterChain& chain,
                            const ImageView& grad_image, float* grad_arguments,
                            float* grad_statistics, void* stream) {
  if (chain.k > kMaxFilters) return Status::unsupported;
  if (is_empty(image)) return Status::ok;
  const Walk walk = plan(image, 1, grad_image);
  const DeviceChain codes = device_chain(chain);
  const Workspace space(image.n * walk.blocks * codes.slot_count, stream);
  if (space.status() != Status::ok) return space.status();
  const MeansPull call{
      {image, grad_image, codes, walk, space.data()}, grad, double(image.h) * double(image.w)};
  const Status status = launch(means_pull_kernel, call, image.n * walk.blocks, stream);
  if (status != Status::ok) return status;
  return finish(call.pull, grad_arguments, grad_statistics, stream);
}

Status filter_chain_loss_backward(const float* grad, const ImageView& image, const MaskView& mask,
                                  const FilterChain& chain, const ImageView& targets,
                                  int64_t target_stride, const ImageView& grad_image,
                                  float* grad_arguments, float* grad_statistics, void* stream) {
  if (chain.k > kMaxFilters) return Status::unsupported;
  if (is_empty(image)) return Status::ok;
  const Walk walk = plan(image, 1, mask, targets, grad_image);
  const DeviceChain codes = device_chain(chain);
  const int64_t blocks = image.n * walk.blocks;
  // The mask's sums first, by block and by image, then the coefficients' gradients.
  const Workspace space(blocks + image.n + blocks * codes.slot_count, stream);
  if (space.status() != Status::ok) return space.status();
  double* weights = space.data() + blocks;
  const Mask ready = prepared(mask, image.n, walk);
  Status status = launch(weight_kernel, WeightCall{ready, walk, space.data()}, blocks, stream);
  if (status != Status::ok) return status;
  status =
      launch(weight_total_kernel, WeightTotal{space.data(), walk.blocks, weights}, image.n, stream);
  if (status != Status::ok) return status;
  const LossPull call{{image, grad_image, codes, walk, weights + image.n},
                      ready,
                      {targets, target_stride},
                      grad,
                      weights};
  status = launch(is_default(chain) ? loss_pull_kernel<DefaultChain> : loss_pull_kernel<AnyChain>,
                  call, blocks, stream);
  if (status != Status::ok) return status;
  return finish(call.pull, grad_arguments, grad_statistics, stream);
}

}  // namespace vharm::cuda
