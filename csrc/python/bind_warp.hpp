// SPDX-License-Identifier: Apache-2.0
// The warp family's functions for Python. Included once in a module, after on_cpu.hpp or
// on_cuda.hpp, which say where `kernels` run.
#pragma once

#include "python/views.hpp"

namespace vharm::python {
namespace {

void flow_warp(const py::object& image, const py::object& flow, bool border, const py::object& out,
               const py::object& valid, const Where& where) {
  const TensorView from = tensor_view(image), by = tensor_view(flow), to = tensor_view(out);
  const TensorView inside = tensor_view(valid);
  call("flow_warp", [&] { return kernels::flow_warp(from, by, border, to, inside, at(where)); });
}

void flow_warp_backward(const py::object& grad, const py::object& image, const py::object& flow,
                        bool border, const py::object& grad_image, const py::object& grad_flow,
                        const Where& where) {
  refuse_scatter(where, grad_image, "flow_warp_backward: the gradient of image");
  const TensorView g = tensor_view(grad), from = tensor_view(image), by = tensor_view(flow);
  const TensorView gi = tensor_view(grad_image), gf = tensor_view(grad_flow);
  call("flow_warp_backward",
       [&] { return kernels::flow_warp_backward(g, from, by, border, gi, gf, at(where)); });
}

void temporal_loss(const py::object& current, const py::object& previous, const py::object& flow,
                   const py::object& mask, const py::object& valid, uintptr_t loss,
                   uintptr_t weight, const Where& where) {
  const TensorView now = tensor_view(current), before = tensor_view(previous);
  const TensorView by = tensor_view(flow);
  const MaskView m = mask_view(mask), v = mask_view(valid);
  call("temporal_loss", [&] {
    return kernels::temporal_loss(now, before, by, m, v, pointer<float>(loss),
                                  pointer<float>(weight), at(where));
  });
}

void temporal_loss_backward(uintptr_t scale, const py::object& current, const py::object& previous,
                            const py::object& flow, const py::object& mask, const py::object& valid,
                            const py::object& grad_current, const py::object& grad_previous,
                            const py::object& grad_flow, const Where& where) {
  refuse_scatter(where, grad_previous, "temporal_loss_backward: the gradient of previous");
  const TensorView now = tensor_view(current), before = tensor_view(previous);
  const TensorView by = tensor_view(flow), gc = tensor_view(grad_current);
  const TensorView gp = tensor_view(grad_previous), gf = tensor_view(grad_flow);
  const MaskView m = mask_view(mask), v = mask_view(valid);
  call("temporal_loss_backward", [&] {
    return kernels::temporal_loss_backward(pointer<const float>(scale), now, before, by, m, v, gc,
                                           gp, gf, at(where));
  });
}

void flow_consistency(const py::object& forward, const py::object& backward, float alpha,
                      float beta, const py::object& out, const Where& where) {
  const TensorView there = tensor_view(forward), back = tensor_view(backward);
  const TensorView to = tensor_view(out);
  call("flow_consistency",
       [&] { return kernels::flow_consistency(there, back, alpha, beta, to, at(where)); });
}

}  // namespace

void bind_warp(py::module_& module) {
  module.def("flow_warp", flow_warp);
  module.def("flow_warp_backward", flow_warp_backward);
  module.def("temporal_loss", temporal_loss);
  module.def("temporal_loss_backward", temporal_loss_backward);
  module.def("flow_consistency", flow_consistency);
}

}  // namespace vharm::python
