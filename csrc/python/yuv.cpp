// SPDX-License-Identifier: Apache-2.0
#include "vharm/yuv.hpp"

#include "python/on_cpu.hpp"

namespace vharm::python {

void bind_yuv(py::module_& module) {
  module.def("yuv_to_rgb",
             [](const py::tuple& in, const py::tuple& format, const py::tuple& out, int threads) {
               const Planes from = planes(in);
               const YuvFormat f = yuv_format(format);
               const ImageView to = image_view(out);
               call("yuv_to_rgb", [&] { return yuv_to_rgb(from.items, f, to, threads); });
             });
  module.def("rgb_to_yuv",
             [](const py::tuple& in, const py::tuple& format, const py::tuple& out, int threads) {
               const ImageView from = image_view(in);
               const YuvFormat f = yuv_format(format);
               const Planes to = planes(out);
               call("rgb_to_yuv", [&] { return rgb_to_yuv(from, f, to.items, threads); });
             });
  module.def(
      "filter_chain_yuv", [](const py::tuple& in, const py::object& mask, uintptr_t arguments,
                             uintptr_t statistics, std::vector<int> filters, bool quantized,
                             const py::tuple& format, const py::tuple& out, int threads) {
        const Chain chain(std::move(filters), arguments, statistics, quantized);
        const Planes from = planes(in), to = planes(out);
        const MaskView m = mask_view(mask);
        const YuvFormat f = yuv_format(format);
        call("filter_chain_yuv",
             [&] { return filter_chain_yuv(from.items, m, chain.view, f, to.items, threads); });
      });
  module.def("composite_yuv", [](const py::tuple& foreground, const py::tuple& background,
                                 const py::object& mask, const py::tuple& format,
                                 bool premultiplied, const py::tuple& out, int threads) {
    const Planes front = planes(foreground), back = planes(background);
    const Planes to = planes(out);
    const MaskView m = mask_view(mask);
    const YuvFormat f = yuv_format(format);
    call("composite_yuv", [&] {
      return composite_yuv(front.items, back.items, m, f, premultiplied, to.items, threads);
    });
  });
  module.def("shrink_planes", [](const py::tuple& in, const py::tuple& out, int threads) {
    const auto from = plane_views(in), to = plane_views(out);
    call("shrink_planes", [&] {
      Status status = Status::ok;
      for (size_t i = 0; i < from.size() && status == Status::ok; ++i) {
        status = shrink_plane(from[i], to[i], threads);
      }
      return status;
    });
  });
  module.def("plane_sums", [](const py::tuple& in, const py::tuple& mask, float black, int64_t step,
                              int log2_x, int log2_y) {
    const auto from = plane_views(in);
    const PlaneView weights = plane_view(mask);
    const int count = static_cast<int>(from.size());
    std::vector<double> sums(count + 1);
    call("plane_sums", [&] {
      return plane_sums(from.data(), count, weights, black, step, log2_x, log2_y, sums.data());
    });
    return sums;
  });
}

}  // namespace vharm::python
