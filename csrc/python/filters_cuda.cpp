// SPDX-License-Identifier: Apache-2.0
// The functions of csrc/python/filters.cpp on the GPU: the same arguments, then a stream instead
// of a number of threads. `deterministic` is accepted and ignored: the kernels always are.
#include "vharm/filters_cuda.hpp"

#include "python/views.hpp"

namespace vharm::python {
namespace {

using Codes = std::vector<int>;

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

void filter_chain(const py::tuple& image, const py::object& mask, uintptr_t arguments,
                  uintptr_t statistics, Codes filters, bool quantized, const py::tuple& out,
                  uintptr_t stream, bool) {
  const Chain chain(std::move(filters), arguments, statistics, quantized);
  const ImageView from = image_view(image), to = image_view(out);
  const MaskView m = mask_view(mask);
  call("filter_chain",
       [&] { return cuda::filter_chain(from, m, chain.view, to, pointer<void>(stream)); });
}

void filter_chain_backward(const py::tuple& grad, const py::tuple& image, const py::object& mask,
                           uintptr_t arguments, uintptr_t statistics, Codes filters, bool quantized,
                           const py::object& grad_image, const py::object& grad_mask,
                           uintptr_t grad_arguments, uintptr_t grad_statistics, uintptr_t stream,
                           bool) {
  const Chain chain(std::move(filters), arguments, statistics, quantized);
  const ImageView g = image_view(grad), from = image_view(image), to = optional_image(grad_image);
  const MaskView m = mask_view(mask), mg = mask_view(grad_mask);
  call("filter_chain_backward", [&] {
    return cuda::filter_chain_backward(g, from, m, chain.view, to, mg,
                                       pointer<float>(grad_arguments),
                                       pointer<float>(grad_statistics), pointer<void>(stream));
  });
}

void chain_means(const py::tuple& image, uintptr_t arguments, uintptr_t statistics, Codes filters,
                 bool quantized, uintptr_t means, uintptr_t stream, bool) {
  const Chain chain(std::move(filters), arguments, statistics, quantized);
  const ImageView from = image_view(image);
  call("chain_means", [&] {
    return cuda::chain_means(from, chain.view, pointer<float>(means), pointer<void>(stream));
  });
}

void chain_means_backward(uintptr_t grad, const py::tuple& image, uintptr_t arguments,
                          uintptr_t statistics, Codes filters, bool quantized,
                          const py::object& grad_image, uintptr_t grad_arguments,
                          uintptr_t grad_statistics, uintptr_t stream, bool) {
  const Chain chain(std::move(filters), arguments, statistics, quantized);
  const ImageView from = image_view(image), to = optional_image(grad_image);
  call("chain_means_backward", [&] {
    return cuda::chain_means_backward(pointer<const float>(grad), from, chain.view, to,
                                      pointer<float>(grad_arguments),
                                      pointer<float>(grad_statistics), pointer<void>(stream));
  });
}

void filter_chain_loss(const py::tuple& image, const py::object& mask, uintptr_t arguments,
                       uintptr_t statistics, const py::tuple& targets, int64_t target_stride,
                       Codes filters, bool quantized, uintptr_t losses, uintptr_t stream, bool) {
  const Chain chain(std::move(filters), arguments, statistics, quantized);
  const ImageView from = image_view(image), wanted = image_view(targets);
  const MaskView m = mask_view(mask);
  call("filter_chain_loss", [&] {
    return cuda::filter_chain_loss(from, m, chain.view, wanted, target_stride,
                                   pointer<float>(losses), pointer<void>(stream));
  });
}

void filter_chain_loss_backward(uintptr_t grad, const py::tuple& image, const py::object& mask,
                                uintptr_t arguments, uintptr_t statistics, const py::tuple& targets,
                                int64_t target_stride, Codes filters, bool quantized,
                                const py::object& grad_image, uintptr_t grad_arguments,
                                uintptr_t grad_statistics, uintptr_t stream, bool) {
  const Chain chain(std::move(filters), arguments, statistics, quantized);
  const ImageView from = image_view(image), wanted = image_view(targets);
  const ImageView to = optional_image(grad_image);
  const MaskView m = mask_view(mask);
  call("filter_chain_loss_backward", [&] {
    return cuda::filter_chain_loss_backward(pointer<const float>(grad), from, m, chain.view, wanted,
                                            target_stride, to, pointer<float>(grad_arguments),
                                            pointer<float>(grad_statistics), pointer<void>(stream));
  });
}

}  // namespace

void bind_filters_cuda(py::module_& module) {
  module.def("filter_chain", filter_chain);
  module.def("filter_chain_backward", filter_chain_backward);
  module.def("chain_means", chain_means);
  module.def("chain_means_backward", chain_means_backward);
  module.def("filter_chain_loss", filter_chain_loss);
  module.def("filter_chain_loss_backward", filter_chain_loss_backward);
}

}  // namespace vharm::python
