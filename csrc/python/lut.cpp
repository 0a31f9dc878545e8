// SPDX-License-Identifier: Apache-2.0
#include "vharm/lut.hpp"

#include "python/on_cpu.hpp"

namespace vharm::python {
namespace {

// (pointer, batch, size)
LutView lut_view(const py::tuple& t) {
  return {pointer<const float>(t[0].cast<uintptr_t>()), t[1].cast<int64_t>(), t[2].cast<int>()};
}

}  // namespace

void bind_lut(py::module_& module) {
  module.def("apply_lut", [](const py::tuple& image, const py::object& mask, const py::tuple& lut,
                             int interpolation, const py::tuple& out, int threads) {
    const ImageView from = image_view(image), to = image_view(out);
    const MaskView m = mask_view(mask);
    const LutView table = lut_view(lut);
    call("apply_lut", [&] {
      return apply_lut(from, m, table, static_cast<Interpolation>(interpolation), to, threads);
    });
  });
  module.def("apply_lut_backward",
             [](const py::tuple& grad, const py::tuple& image, const py::object& mask,
                const py::tuple& lut, int interpolation, const py::object& grad_image,
                const py::object& grad_mask, uintptr_t grad_lut, int threads) {
               const ImageView g = image_view(grad), from = image_view(image);
               const ImageView to = optional_image(grad_image);
               const MaskView m = mask_view(mask), mg = mask_view(grad_mask);
               const LutView table = lut_view(lut);
               call("apply_lut_backward", [&] {
                 return apply_lut_backward(g, from, m, table,
                                           static_cast<Interpolation>(interpolation), to, mg,
                                           pointer<float>(grad_lut), threads);
               });
             });
  module.def(
      "lut_splat", [](const py::tuple& source, const py::tuple& target, const py::object& mask,
                      int size, bool offset, uintptr_t sums, int threads) {
        const ImageView from = image_view(source), to = image_view(target);
        const MaskView m = mask_view(mask);
        call("lut_splat",
             [&] { return lut_splat(from, to, m, size, offset, pointer<float>(sums), threads); });
      });
  module.def("apply_lut_yuv", [](const py::tuple& in, const py::object& mask, const py::tuple& lut,
                                 int interpolation, const py::tuple& format, const py::tuple& out,
                                 int threads) {
    const Planes from = planes(in), to = planes(out);
    const MaskView m = mask_view(mask);
    const LutView table = lut_view(lut);
    const YuvFormat f = yuv_format(format);
    call("apply_lut_yuv", [&] {
      return apply_lut_yuv(from.items, m, table, static_cast<Interpolation>(interpolation), f,
                           to.items, threads);
    });
  });
}

}  // namespace vharm::python
