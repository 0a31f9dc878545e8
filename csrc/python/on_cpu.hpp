// SPDX-License-Identifier: Apache-2.0
// Has the functions of a bind_*.hpp call the CPU's kernels.
#pragma once

#include "python/views.hpp"

namespace vharm::python {

namespace kernels = ::vharm;

using Where = int;  // how many threads
inline int at(Where threads) { return threads; }

// `run` without the GIL.
template <class Run>
void call(const char* function, const Run& run) {
  Status status;
  {
    py::gil_scoped_release release;
    status = run();
  }
  check(status, function);
}

// Results are the same on every run anyway.
inline void refuse_scatter(Where, const py::object&, const char*) {}

}  // namespace vharm::python
