// SPDX-License-Identifier: Apache-2.0
// Sums over an image's pixels in two steps: every block writes its partial sums in double, and
// one block per image adds them up. The order is fixed, and nothing is atomic.
#pragma once

#include <mutex>

#include "cuda/launch.cuh"

namespace vharm::cuda {

constexpr int kWarps = kThreads / 32;

// Adds sums[0, slots) of the block's threads to out[0, slots). A thread adds a few dozen pixels
// and a warp 32 threads in float; from there on it is double.
template <int kSlots, int kUnroll>
__device__ __forceinline__ void write_partials(const Real* sums, int slots, double* out) {
  __shared__ float warp_sums[kWarps][kSlots];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll kUnroll
  for (int s = 0; s < slots; ++s) {
    float sum = sums[s].v;
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
    if (lane == 0) warp_sums[warp][s] = sum;
  }
  __syncthreads();
  if (static_cast<int>(threadIdx.x) < slots) {
    double sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += warp_sums[w][threadIdx.x];
    out[threadIdx.x] = sum;
  }
}

// totals[0, slots), in shared memory: the sums over one image's blocks. One warp to a slot.
__device__ __forceinline__ void image_totals(const double* partials, int blocks, int slots,
                                             double* totals) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int s = warp; s < slots; s += kWarps) {
    double sum = 0;
    for (int b = lane; b < blocks; b += 32) sum += partials[int64_t(b) * slots + s];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
    if (lane == 0) totals[s] = sum;
  }
  __syncthreads();
}

// Device memory for the time between two launches, in stream order. The pool is vharm's own: the
// device's default one gives its memory back to the system at every synchronization.
class Workspace {
 public:
  Workspace(int64_t doubles, void* stream) : stream_(static_cast<cudaStream_t>(stream)) {
    if (doubles == 0) return;
    cudaMemPool_t pool;
    status_ = report(pool_of_device(&pool));
    if (status_ != Status::ok) return;
    void* data = nullptr;
    status_ = report(cudaMallocFromPoolAsync(&data, sizeof(double) * doubles, pool, stream_));
    if (status_ == Status::ok) data_ = static_cast<double*>(data);
  }
  ~Workspace() {
    if (data_ != nullptr) cudaFreeAsync(data_, stream_);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  Status status() const { return status_; }
  double* data() const { return data_; }

 private:
  static constexpr int kMaxDevices = 64;
  static constexpr uint64_t kKept = uint64_t(64) << 20;  // bytes

  static cudaError_t pool_of_device(cudaMemPool_t* pool);

  cudaStream_t stream_;
  double* data_ = nullptr;
  Status status_ = Status::ok;
};

inline cudaError_t Workspace::pool_of_device(cudaMemPool_t* pool) {
  static std::mutex mutex;
  static cudaMemPool_t pools[kMaxDevices] = {};
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  if (device >= kMaxDevices) return cudaErrorInvalidDevice;
  const std::lock_guard<std::mutex> lock(mutex);
  if (pools[device] == nullptr) {
    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = device;
    cudaMemPool_t made;
    error = cudaMemPoolCreate(&made, &properties);
    if (error != cudaSuccess) return error;
    uint64_t kept = kKept;
    error = cudaMemPoolSetAttribute(made, cudaMemPoolAttrReleaseThreshold, &kept);
    if (error != cudaSuccess) return error;
    pools[device] = made;
  }
  *pool = pools[device];
  return cudaSuccess;
}

}  // namespace vharm::cuda
