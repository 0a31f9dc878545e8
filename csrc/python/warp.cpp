// SPDX-License-Identifier: Apache-2.0
#include "vharm/warp.hpp"

#include "python/views.hpp"

namespace vharm::python {

void bind_warp(py::module_& module) {
  module.def("flow_warp", [](const py::object& image, const py::object& flow, bool border,
                             const py::object& out, const py::object& valid, int threads) {
    const TensorView from = tensor_view(image), by = tensor_view(flow), to = tensor_view(out);
    const TensorView inside = tensor_view(valid);
    Status status;
    {
      py::gil_scoped_release release;
      status = flow_warp(from, by, border, to, inside, threads);
    }
    check(status, "flow_warp");
  });
  module.def(
      "flow_warp_backward",
      [](const py::object& grad, const py::object& image, const py::object& flow, bool border,
         const py::object& grad_image, const py::object& grad_flow, int threads) {
        const TensorView g = tensor_view(grad), from = tensor_view(image), by = tensor_view(flow);
        const TensorView gi = tensor_view(grad_image), gf = tensor_view(grad_flow);
        Status status;
        {
          py::gil_scoped_release release;
          status = flow_warp_backward(g, from, by, border, gi, gf, threads);
        }
        check(status, "flow_warp_backward");
      });
  module.def("temporal_loss",
             [](const py::object& current, const py::object& previous, const py::object& flow,
                const py::object& mask, const py::object& valid, uintptr_t loss, uintptr_t weight,
                int threads) {
               const TensorView now = tensor_view(current), before = tensor_view(previous);
               const TensorView by = tensor_view(flow);
               const MaskView m = mask_view(mask), v = mask_view(valid);
               Status status;
               {
                 py::gil_scoped_release release;
                 status = temporal_loss(now, before, by, m, v, pointer<float>(loss),
                                        pointer<float>(weight), threads);
               }
               check(status, "temporal_loss");
             });
  module.def("temporal_loss_backward",
             [](uintptr_t scale, const py::object& current, const py::object& previous,
                const py::object& flow, const py::object& mask, const py::object& valid,
                const py::object& grad_current, const py::object& grad_previous,
                const py::object& grad_flow, int threads) {
               const TensorView now = tensor_view(current), before = tensor_view(previous);
               const TensorView by = tensor_view(flow), gc = tensor_view(grad_current);
               const TensorView gp = tensor_view(grad_previous), gf = tensor_view(grad_flow);
               const MaskView m = mask_view(mask), v = mask_view(valid);
               Status status;
               {
                 py::gil_scoped_release release;
                 status = temporal_loss_backward(pointer<const float>(scale), now, before, by, m, v,
                                                 gc, gp, gf, threads);
               }
               check(status, "temporal_loss_backward");
             });
  module.def("flow_consistency", [](const py::object& forward, const py::object& backward,
                                    float alpha, float beta, const py::object& out, int threads) {
    const TensorView there = tensor_view(forward), back = tensor_view(backward);
    const TensorView to = tensor_view(out);
    Status status;
    {
      py::gil_scoped_release release;
      status = flow_consistency(there, back, alpha, beta, to, threads);
    }
    check(status, "flow_consistency");
  });
}

}  // namespace vharm::python
