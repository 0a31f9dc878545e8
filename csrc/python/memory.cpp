// SPDX-License-Identifier: Apache-2.0
#include "runtime/memory.hpp"

#include "python/views.hpp"

namespace vharm::python {

void bind_memory(py::module_& module) {
  module.def("prefault", [](uintptr_t data, int64_t bytes, int threads) {
    py::gil_scoped_release release;
    prefault(pointer<void>(data), bytes, threads);
  });
  module.def("return_large_blocks", &return_large_blocks);
}

}  // namespace vharm::python
