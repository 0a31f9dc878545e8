// SPDX-License-Identifier: Apache-2.0
// What this build contains, whether the machine can run it, and what went wrong.
#include <cstdio>

#include "cuda/launch.cuh"

namespace vharm::cuda {
namespace {

thread_local cudaError_t t_problem = cudaSuccess;

__global__ void probe_kernel() {}

struct Version {
  int major, minor;
  explicit Version(int code) : major(code / 1000), minor(code % 1000 / 10) {}
};

int driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

void describe_driver(char* text, int size) {
  const Version driver(driver_version()), runtime(CUDART_VERSION);
  if (driver.major == 0) {
    snprintf(text, size, "no NVIDIA driver on this machine");
  } else {
    snprintf(text, size,
             "the NVIDIA driver (CUDA %d.%d) is too old for the CUDA runtime (%d.%d) of this build",
             driver.major, driver.minor, runtime.major, runtime.minor);
  }
}

void describe_kernel(cudaError_t error, char* text, int size) {
  int device = 0, major = 0, minor = 0;
  const bool known =
      cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess;
  const bool missing = error == cudaErrorNoKernelImageForDevice ||
                       error == cudaErrorInvalidDeviceFunction ||
                       error == cudaErrorUnsupportedPtxVersion;
  if (missing && known) {
    snprintf(text, size, "no kernel image for this GPU (compute capability %d.%d)", major, minor);
  } else {
    snprintf(text, size, "the CUDA kernels do not load: %s", cudaGetErrorString(error));
  }
}

}  // namespace

Status report(cudaError_t error) {
  if (error == cudaSuccess) return Status::ok;
  t_problem = error;
  return error == cudaErrorMemoryAllocation ? Status::out_of_memory : Status::launch_failed;
}

const char* last_problem() { return cudaGetErrorString(t_problem); }

void device_status(char* text, int size) {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    describe_driver(text, size);
  } else if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    snprintf(text, size, "the NVIDIA driver sees no GPU");
  } else if (error != cudaSuccess) {
    snprintf(text, size, "CUDA cannot be used: %s", cudaGetErrorString(error));
  } else {
    cudaFuncAttributes attributes;
    error = cudaFuncGetAttributes(&attributes, probe_kernel);
    if (error == cudaSuccess) {
      snprintf(text, size, "ok");
    } else {
      describe_kernel(error, text, size);
    }
  }
  // Leaves nothing behind for another library's check of the last error.
  if (error != cudaSuccess) (void)cudaGetLastError();
}

BuildInfo build_info() {
  BuildInfo info{CUDART_VERSION, driver_version(), {}, 0};
#if defined(__CUDA_ARCH_LIST__)
  for (const int arch : {__CUDA_ARCH_LIST__}) {
    if (info.arch_count < 16) info.archs[info.arch_count++] = arch / 10;
  }
#endif
  return info;
}

}  // namespace vharm::cuda
