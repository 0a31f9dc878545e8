// SPDX-License-Identifier: Apache-2.0
// vharm._cuda: the GPU kernels for Python. It imports without a driver; device_status() says
// whether anything in it can run.
#include "python/views.hpp"
#include "vharm/filters_cuda.hpp"

namespace vharm::python {

void bind_filters(py::module_& module);
void bind_attention(py::module_& module);
void bind_warp(py::module_& module);
void bind_tokens(py::module_& module);

namespace {

std::string version(int code) {
  return std::to_string(code / 1000) + "." + std::to_string(code % 1000 / 10);
}

std::string device_status() {
  char text[256];
  cuda::device_status(text, sizeof text);
  return text;
}

py::dict build_info() {
  const cuda::BuildInfo info = cuda::build_info();
  py::dict result;
  result["runtime"] = version(info.runtime);
  result["driver"] = info.driver == 0 ? py::object(py::none()) : py::str(version(info.driver));
  result["archs"] = std::vector<int>(info.archs, info.archs + info.arch_count);
  return result;
}

}  // namespace
}  // namespace vharm::python

PYBIND11_MODULE(_cuda, module) {
  using namespace vharm::python;
  module.doc() = "GPU kernels of vharm; used through vharm.ops.";
  module.def("device_status", [] {
    py::gil_scoped_release release;
    return device_status();
  });
  module.def("build_info", build_info);
  bind_filters(module);
  bind_attention(module);
  bind_warp(module);
  bind_tokens(module);
}
