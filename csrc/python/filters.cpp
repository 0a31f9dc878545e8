// SPDX-License-Identifier: Apache-2.0
#include "vharm/filters.hpp"

#include "python/views.hpp"

namespace vharm::python {

void bind_filters(py::module_& module) {
  using Codes = std::vector<int>;
  module.def("filter_chain", [](const py::tuple& image, const py::object& mask, uintptr_t arguments,
                                uintptr_t statistics, Codes filters, bool quantized,
                                const py::tuple& out, int threads) {
    const Chain chain(std::move(filters), arguments, statistics, quantized);
    const ImageView from = image_view(image), to = image_view(out);
    const MaskView m = mask_view(mask);
    Status status;
    {
      py::gil_scoped_release release;
      status = filter_chain(from, m, chain.view, to, threads);
    }
    check(status, "filter_chain");
  });
  module.def("filter_chain_backward",
             [](const py::tuple& grad, const py::tuple& image, const py::object& mask,
                uintptr_t arguments, uintptr_t statistics, Codes filters, bool quantized,
                const py::object& grad_image, const py::object& grad_mask, uintptr_t grad_arguments,
                uintptr_t grad_statistics, int threads) {
               const Chain chain(std::move(filters), arguments, statistics, quantized);
               const ImageView g = image_view(grad), from = image_view(image);
               const ImageView to = optional_image(grad_image);
               const MaskView m = mask_view(mask), mg = mask_view(grad_mask);
               Status status;
               {
                 py::gil_scoped_release release;
                 status = filter_chain_backward(g, from, m, chain.view, to, mg,
                                                pointer<float>(grad_arguments),
                                                pointer<float>(grad_statistics), threads);
               }
               check(status, "filter_chain_backward");
             });
  module.def("chain_means", [](const py::tuple& image, uintptr_t arguments, uintptr_t statistics,
                               Codes filters, bool quantized, uintptr_t means, int threads) {
    const Chain chain(std::move(filters), arguments, statistics, quantized);
    const ImageView from = image_view(image);
    Status status;
    {
      py::gil_scoped_release release;
      status = chain_means(from, chain.view, pointer<float>(means), threads);
    }
    check(status, "chain_means");
  });
  module.def("chain_means_backward",
             [](uintptr_t grad, const py::tuple& image, uintptr_t arguments, uintptr_t statistics,
                Codes filters, bool quantized, const py::object& grad_image,
                uintptr_t grad_arguments, uintptr_t grad_statistics, int threads) {
               const Chain chain(std::move(filters), arguments, statistics, quantized);
               const ImageView from = image_view(image), to = optional_image(grad_image);
               Status status;
               {
                 py::gil_scoped_release release;
                 status = chain_means_backward(pointer<const float>(grad), from, chain.view, to,
                                               pointer<float>(grad_arguments),
                                               pointer<float>(grad_statistics), threads);
               }
               check(status, "chain_means_backward");
             });
  module.def("filter_chain_loss",
             [](const py::tuple& image, const py::object& mask, uintptr_t arguments,
                uintptr_t statistics, const py::tuple& targets, int64_t target_stride,
                Codes filters, bool quantized, uintptr_t losses, int threads) {
               const Chain chain(std::move(filters), arguments, statistics, quantized);
               const ImageView from = image_view(image), wanted = image_view(targets);
               const MaskView m = mask_view(mask);
               Status status;
               {
                 py::gil_scoped_release release;
                 status = filter_chain_loss(from, m, chain.view, wanted, target_stride,
                                            pointer<float>(losses), threads);
               }
               check(status, "filter_chain_loss");
             });
  module.def("filter_chain_loss_backward",
             [](uintptr_t grad, const py::tuple& image, const py::object& mask, uintptr_t arguments,
                uintptr_t statistics, const py::tuple& targets, int64_t target_stride,
                Codes filters, bool quantized, const py::object& grad_image,
                uintptr_t grad_arguments, uintptr_t grad_statistics, int threads) {
               const Chain chain(std::move(filters), arguments, statistics, quantized);
               const ImageView from = image_view(image), wanted = image_view(targets);
               const ImageView to = optional_image(grad_image);
               const MaskView m = mask_view(mask);
               Status status;
               {
                 py::gil_scoped_release release;
                 status = filter_chain_loss_backward(
                     pointer<const float>(grad), from, m, chain.view, wanted, target_stride, to,
                     pointer<float>(grad_arguments), pointer<float>(grad_statistics), threads);
               }
               check(status, "filter_chain_loss_backward");
             });
  module.def("filter_chain_yuv",
             [](const py::tuple& in, const py::object& mask, uintptr_t arguments,
                uintptr_t statistics, Codes filters, bool quantized, const py::tuple& format,
                const py::tuple& out, int threads) {
               const Chain chain(std::move(filters), arguments, statistics, quantized);
               const Planes from = planes(in), to = planes(out);
               const MaskView m = mask_view(mask);
               const YuvFormat f = yuv_format(format);
               Status status;
               {
                 py::gil_scoped_release release;
                 status = filter_chain_yuv(from.items, m, chain.view, f, to.items, threads);
               }
               check(status, "filter_chain_yuv");
             });
}

}  // namespace vharm::python
