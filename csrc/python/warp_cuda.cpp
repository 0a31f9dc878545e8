// SPDX-License-Identifier: Apache-2.0
// The functions of csrc/python/warp.cpp on the GPU: the same arguments, then a stream and whether
// the result must be the same on every run, instead of a number of threads.
#include "vharm/warp_cuda.hpp"

#include "python/views.hpp"
#include "vharm/filters_cuda.hpp"

namespace vharm::python {
namespace {

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

void refuse(bool deterministic, const py::object& scattered, const char* what) {
  if (deterministic && !scattered.is_none()) {
    throw std::runtime_error(std::string(what) +
                             " has no deterministic CUDA kernel, and "
                             "torch.use_deterministic_algorithms(True) is set");
  }
}

void flow_warp(const py::object& image, const py::object& flow, bool border, const py::object& out,
               const py::object& valid, uintptr_t stream, bool) {
  const TensorView from = tensor_view(image), by = tensor_view(flow), to = tensor_view(out);
  const TensorView inside = tensor_view(valid);
  call("flow_warp",
       [&] { return cuda::flow_warp(from, by, border, to, inside, pointer<void>(stream)); });
}

void flow_warp_backward(const py::object& grad, const py::object& image, const py::object& flow,
                        bool border, const py::object& grad_image, const py::object& grad_flow,
                        uintptr_t stream, bool deterministic) {
  refuse(deterministic, grad_image, "flow_warp_backward: the gradient of image");
  const TensorView g = tensor_view(grad), from = tensor_view(image), by = tensor_view(flow);
  const TensorView gi = tensor_view(grad_image), gf = tensor_view(grad_flow);
  call("flow_warp_backward", [&] {
    return cuda::flow_warp_backward(g, from, by, border, gi, gf, pointer<void>(stream),
                                    deterministic);
  });
}

void temporal_loss(const py::object& current, const py::object& previous, const py::object& flow,
                   const py::object& mask, const py::object& valid, uintptr_t loss,
                   uintptr_t weight, uintptr_t stream, bool) {
  const TensorView now = tensor_view(current), before = tensor_view(previous);
  const TensorView by = tensor_view(flow);
  const MaskView m = mask_view(mask), v = mask_view(valid);
  call("temporal_loss", [&] {
    return cuda::temporal_loss(now, before, by, m, v, pointer<float>(loss), pointer<float>(weight),
                               pointer<void>(stream));
  });
}

void temporal_loss_backward(uintptr_t scale, const py::object& current, const py::object& previous,
                            const py::object& flow, const py::object& mask, const py::object& valid,
                            const py::object& grad_current, const py::object& grad_previous,
                            const py::object& grad_flow, uintptr_t stream, bool deterministic) {
  refuse(deterministic, grad_previous, "temporal_loss_backward: the gradient of previous");
  const TensorView now = tensor_view(current), before = tensor_view(previous);
  const TensorView by = tensor_view(flow), gc = tensor_view(grad_current);
  const TensorView gp = tensor_view(grad_previous), gf = tensor_view(grad_flow);
  const MaskView m = mask_view(mask), v = mask_view(valid);
  call("temporal_loss_backward", [&] {
    return cuda::temporal_loss_backward(pointer<const float>(scale), now, before, by, m, v, gc, gp,
                                        gf, pointer<void>(stream), deterministic);
  });
}

void flow_consistency(const py::object& forward, const py::object& backward, float alpha,
                      float beta, const py::object& out, uintptr_t stream, bool) {
  const TensorView there = tensor_view(forward), back = tensor_view(backward);
  const TensorView to = tensor_view(out);
  call("flow_consistency",
       [&] { return cuda::flow_consistency(there, back, alpha, beta, to, pointer<void>(stream)); });
}

}  // namespace

void bind_warp_cuda(py::module_& module) {
  module.def("flow_warp", flow_warp);
  module.def("flow_warp_backward", flow_warp_backward);
  module.def("temporal_loss", temporal_loss);
  module.def("temporal_loss_backward", temporal_loss_backward);
  module.def("flow_consistency", flow_consistency);
}

}  // namespace vharm::python
