// SPDX-License-Identifier: Apache-2.0
// Has the functions of a bind_*.hpp call the GPU's kernels.
#pragma once

#include <utility>

#include "python/views.hpp"
#include "vharm/filters_cuda.hpp"  // last_problem

namespace vharm::python {

namespace kernels = ::vharm::cuda;

using Where = std::pair<uintptr_t, bool>;  // a stream; whether every run must give the same
inline void* at(const Where& where) { return pointer<void>(where.first); }

// `run` without the GIL; a failure names what CUDA said.
template <class Run>
void call(const char* function, const Run& run) {
  Status status;
  {
    py::gil_scoped_release release;
    status = run();
  }
  if (status == Status::launch_failed || status == Status::out_of_memory) {
    throw std::runtime_error(std::string(function) + ": CUDA: " + cuda::last_problem());
  }
  check(status, function);
}

// A scatter adds in whatever order its threads come.
inline void refuse_scatter(const Where& where, const py::object& scattered, const char* what) {
  if (where.second && !scattered.is_none()) {
    throw std::runtime_error(std::string(what) +
                             " has no deterministic CUDA kernel, and "
                             "torch.use_deterministic_algorithms(True) is set");
  }
}

}  // namespace vharm::python
