// SPDX-License-Identifier: Apache-2.0
// The filter family's functions for Python. Included once in a module, after on_cpu.hpp or
// on_cuda.hpp, which say where `kernels` run.
#pragma once

#include "python/views.hpp"

namespace vharm::python {
namespace {

using Codes = std::vector<int>;

void filter_chain(const py::tuple& image, const py::object& mask, uintptr_t arguments,
                  uintptr_t statistics, Codes filters, bool quantized, const py::tuple& out,
                  const Where& where) {
  const Chain chain(std::move(filters), arguments, statistics, quantized);
  const ImageView from = image_view(image), to = image_view(out);
  const MaskView m = mask_view(mask);
  call("filter_chain", [&] { return kernels::filter_chain(from, m, chain.view, to, at(where)); });
}

void filter_chain_backward(const py::tuple& grad, const py::tuple& image, const py::object& mask,
                           uintptr_t arguments, uintptr_t statistics, Codes filters, bool quantized,
                           const py::object& grad_image, const py::object& grad_mask,
                           uintptr_t grad_arguments, uintptr_t grad_statistics,
                           const Where& where) {
  const Chain chain(std::move(filters), arguments, statistics, quantized);
  const ImageView g = image_view(grad), from = image_view(image), to = optional_image(grad_image);
  const MaskView m = mask_view(mask), mg = mask_view(grad_mask);
  call("filter_chain_backward", [&] {
    return kernels::filter_chain_backward(g, from, m, chain.view, to, mg,
                                          pointer<float>(grad_arguments),
                                          pointer<float>(grad_statistics), at(where));
  });
}

void chain_means(const py::tuple& image, uintptr_t arguments, uintptr_t statistics, Codes filters,
                 bool quantized, uintptr_t means, const Where& where) {
  const Chain chain(std::move(filters), arguments, statistics, quantized);
  const ImageView from = image_view(image);
  call("chain_means",
       [&] { return kernels::chain_means(from, chain.view, pointer<float>(means), at(where)); });
}

void chain_means_backward(uintptr_t grad, const py::tuple& image, uintptr_t arguments,
                          uintptr_t statistics, Codes filters, bool quantized,
                          const py::object& grad_image, uintptr_t grad_arguments,
                          uintptr_t grad_statistics, const Where& where) {
  const Chain chain(std::move(filters), arguments, statistics, quantized);
  const ImageView from = image_view(image), to = optional_image(grad_image);
  call("chain_means_backward", [&] {
    return kernels::chain_means_backward(pointer<const float>(grad), from, chain.view, to,
                                         pointer<float>(grad_arguments),
                                         pointer<float>(grad_statistics), at(where));
  });
}

void filter_chain_loss(const py::tuple& image, const py::object& mask, uintptr_t arguments,
                       uintptr_t statistics, const py::tuple& targets, int64_t target_stride,
                       Codes filters, bool quantized, uintptr_t losses, const Where& where) {
  const Chain chain(std::move(filters), arguments, statistics, quantized);
  const ImageView from = image_view(image), wanted = image_view(targets);
  const MaskView m = mask_view(mask);
  call("filter_chain_loss", [&] {
    return kernels::filter_chain_loss(from, m, chain.view, wanted, target_stride,
                                      pointer<float>(losses), at(where));
  });
}

void filter_chain_loss_backward(uintptr_t grad, const py::tuple& image, const py::object& mask,
                                uintptr_t arguments, uintptr_t statistics, const py::tuple& targets,
                                int64_t target_stride, Codes filters, bool quantized,
                                const py::object& grad_image, uintptr_t grad_arguments,
                                uintptr_t grad_statistics, const Where& where) {
  const Chain chain(std::move(filters), arguments, statistics, quantized);
  const ImageView from = image_view(image), wanted = image_view(targets);
  const ImageView to = optional_image(grad_image);
  const MaskView m = mask_view(mask);
  call("filter_chain_loss_backward", [&] {
    return kernels::filter_chain_loss_backward(
        pointer<const float>(grad), from, m, chain.view, wanted, target_stride, to,
        pointer<float>(grad_arguments), pointer<float>(grad_statistics), at(where));
  });
}

}  // namespace

void bind_filters(py::module_& module) {
  module.def("filter_chain", filter_chain);
  module.def("filter_chain_backward", filter_chain_backward);
  module.def("chain_means", chain_means);
  module.def("chain_means_backward", chain_means_backward);
  module.def("filter_chain_loss", filter_chain_loss);
  module.def("filter_chain_loss_backward", filter_chain_loss_backward);
}

}  // namespace vharm::python
