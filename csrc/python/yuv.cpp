// SPDX-License-Identifier: Apache-2.0
#include "vharm/yuv.hpp"

#include "python/views.hpp"

namespace vharm::python {

void bind_yuv(py::module_& module) {
  module.def("yuv_to_rgb",
             [](const py::tuple& in, const py::tuple& format, const py::tuple& out, int threads) {
               const Planes from = planes(in);
               const YuvFormat f = yuv_format(format);
               const ImageView to = image_view(out);
               Status status;
               {
                 py::gil_scoped_release release;
                 status = yuv_to_rgb(from.items, f, to, threads);
               }
               check(status, "yuv_to_rgb");
             });
  module.def("rgb_to_yuv",
             [](const py::tuple& in, const py::tuple& format, const py::tuple& out, int threads) {
               const ImageView from = image_view(in);
               const YuvFormat f = yuv_format(format);
               const Planes to = planes(out);
               Status status;
               {
                 py::gil_scoped_release release;
                 status = rgb_to_yuv(from, f, to.items, threads);
               }
               check(status, "rgb_to_yuv");
             });
  module.def("filter_chain_yuv",
             [](const py::tuple& in, const py::object& mask, uintptr_t arguments,
                uintptr_t statistics, std::vector<int> filters, bool quantized,
                const py::tuple& format, const py::tuple& out, int threads) {
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
  module.def("composite_yuv", [](const py::tuple& foreground, const py::tuple& background,
                                 const py::object& mask, const py::tuple& format,
                                 bool premultiplied, const py::tuple& out, int threads) {
    const Planes front = planes(foreground), back = planes(background);
    const Planes to = planes(out);
    const MaskView m = mask_view(mask);
    const YuvFormat f = yuv_format(format);
    Status status;
    {
      py::gil_scoped_release release;
      status = composite_yuv(front.items, back.items, m, f, premultiplied, to.items, threads);
    }
    check(status, "composite_yuv");
  });
  module.def("shrink_plane", [](const py::tuple& in, const py::tuple& out, int threads) {
    const PlaneView from = plane_view(in), to = plane_view(out);
    Status status;
    {
      py::gil_scoped_release release;
      status = shrink_plane(from, to, threads);
    }
    check(status, "shrink_plane");
  });
}

}  // namespace vharm::python
