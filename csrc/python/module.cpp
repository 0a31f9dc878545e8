// SPDX-License-Identifier: Apache-2.0
// vharm._C: the CPU kernels for Python. One bind_<family> per op family.
#include "cpu/kernels.hpp"
#include "python/views.hpp"

namespace vharm::python {
void bind_filters(py::module_& module);
void bind_lut(py::module_& module);
void bind_statistics(py::module_& module);
void bind_yuv(py::module_& module);
void bind_warp(py::module_& module);
void bind_attention(py::module_& module);
void bind_tokens(py::module_& module);
void bind_memory(py::module_& module);
}  // namespace vharm::python

PYBIND11_MODULE(_C, module) {
  module.doc() = "CPU kernels of vharm; used through vharm.ops.";
  module.def("isa", [] { return std::string(vharm::kernels().isa); });
  module.def("isa_problem", []() -> std::string {
    const char* problem = vharm::isa_problem();
    return problem == nullptr ? "" : problem;
  });
  vharm::python::bind_filters(module);
  vharm::python::bind_lut(module);
  vharm::python::bind_statistics(module);
  vharm::python::bind_yuv(module);
  vharm::python::bind_warp(module);
  vharm::python::bind_attention(module);
  vharm::python::bind_tokens(module);
  vharm::python::bind_memory(module);
}
