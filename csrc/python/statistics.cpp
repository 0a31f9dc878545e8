// SPDX-License-Identifier: Apache-2.0
#include "vharm/statistics.hpp"

#include "python/on_cpu.hpp"

namespace vharm::python {

void bind_statistics(py::module_& module) {
  module.def("masked_moments", [](const py::tuple& image, const py::object& mask, uintptr_t mean,
                                  uintptr_t covariance, uintptr_t weight, int threads) {
    const ImageView from = image_view(image);
    const MaskView m = mask_view(mask);
    call("masked_moments", [&] {
      return masked_moments(from, m, pointer<float>(mean), pointer<float>(covariance),
                            pointer<float>(weight), threads);
    });
  });
  module.def(
      "masked_moments_backward",
      [](uintptr_t grad_mean, uintptr_t grad_covariance, uintptr_t grad_weight,
         const py::tuple& image, const py::object& mask, uintptr_t mean, uintptr_t covariance,
         uintptr_t weight, const py::object& grad_image, const py::object& grad_mask, int threads) {
        const ImageView from = image_view(image), to = optional_image(grad_image);
        const MaskView m = mask_view(mask), mg = mask_view(grad_mask);
        call("masked_moments_backward", [&] {
          return masked_moments_backward(
              pointer<const float>(grad_mean), pointer<const float>(grad_covariance),
              pointer<const float>(grad_weight), from, m, pointer<const float>(mean),
              pointer<const float>(covariance), pointer<const float>(weight), to, mg, threads);
        });
      });
  module.def("masked_histogram", [](const py::tuple& image, const py::object& mask, int bins,
                                    uintptr_t out, int threads) {
    const ImageView from = image_view(image);
    const MaskView m = mask_view(mask);
    call("masked_histogram",
         [&] { return masked_histogram(from, m, bins, pointer<float>(out), threads); });
  });
  module.def("gram", [](uintptr_t tokens, uintptr_t cu_seqlens, int64_t sequences, int64_t c,
                        uintptr_t out, int threads) {
    call("gram", [&] {
      return gram(pointer<const float>(tokens), pointer<const int32_t>(cu_seqlens), sequences, c,
                  pointer<float>(out), threads);
    });
  });
  module.def("gram_backward", [](uintptr_t square, uintptr_t tokens, uintptr_t cu_seqlens,
                                 int64_t sequences, int64_t c, uintptr_t grad, int threads) {
    call("gram_backward", [&] {
      return gram_backward(pointer<const float>(square), pointer<const float>(tokens),
                           pointer<const int32_t>(cu_seqlens), sequences, c, pointer<float>(grad),
                           threads);
    });
  });
  module.def("patch_balance",
             [](const py::tuple& image, double factor, uintptr_t out, int threads) {
               const ImageView from = image_view(image);
               call("patch_balance",
                    [&] { return patch_balance(from, factor, pointer<float>(out), threads); });
             });
  module.def("patch_balance_backward", [](uintptr_t grad, const py::tuple& image, double factor,
                                          const py::tuple& grad_image, int threads) {
    const ImageView from = image_view(image), to = image_view(grad_image);
    call("patch_balance_backward", [&] {
      return patch_balance_backward(pointer<const float>(grad), from, factor, to, threads);
    });
  });
}

}  // namespace vharm::python
