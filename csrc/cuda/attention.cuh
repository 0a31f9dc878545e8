// SPDX-License-Identifier: Apache-2.0
// What the attention kernels share: samples of feature maps, selections, launches.
#pragma once

#include <cuda_runtime.h>

#include "cuda/launch.cuh"
#include "vharm/attention_cuda.hpp"

namespace vharm::cuda {

constexpr int kChannels = 16;  // of one position, in registers

VHARM_HD int64_t offset_of(const TensorView& f, int64_t n, int64_t c, int64_t y, int64_t x) {
  return n * f.sn + c * f.sc + y * f.sh + x * f.sw;
}

template <DType kType>
VHARM_HD float read(const TensorView& f, int64_t offset) {
  return number<kType>(load_bits(f.data, kType == DType::f32 ? 4 : 2, offset));
}
template <DType kType>
VHARM_HD void write(const TensorView& f, int64_t offset, float value) {
  store_bits(f.data, kType == DType::f32 ? 4 : 2, offset, encode<kType>(Real(value)));
}

VHARM_HD bool is_set(const MaskView& mask, int64_t n, int64_t y, int64_t x) {
  if (mask.data == nullptr) return true;
  bool set = false;
  with_dtype(mask.dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
    const int64_t offset = n * mask.sn + y * mask.sh + x * mask.sw;
    set = number<kType>(load_bits(mask.data, sample_size(kType), offset)) > 0.0f;
  });
  return set;
}

// Calls body(Known<dtype>{}) for the dtypes of feature maps.
template <class Body>
Status with_feature_dtype(DType dtype, const Body& body) {
  if (dtype == DType::f32) return body(Known<DType::f32>{});
  if (dtype == DType::f16) return body(Known<DType::f16>{});
  if (dtype == DType::bf16) return body(Known<DType::bf16>{});
  return Status::unsupported;
}

template <class Call>
Status launch_blocks(void (*kernel)(Call), const Call& call, int64_t blocks, int threads,
                     size_t shared, void* stream) {
  if (blocks == 0) return Status::ok;
  if (blocks > 0x7fffffff) return Status::unsupported;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared;
  config.stream = static_cast<cudaStream_t>(stream);
  cudaError_t error = cudaLaunchKernelEx(&config, kernel, call);
  if (error == cudaSuccess) error = cudaGetLastError();
  return report(error);
}

}  // namespace vharm::cuda
