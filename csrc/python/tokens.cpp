// SPDX-License-Identifier: Apache-2.0
#include "vharm/tokens.hpp"

#include "python/token_views.hpp"

namespace vharm::python {

void bind_tokens(py::module_& module) {
  module.def("foreground_patches",
             [](const py::tuple& mask, int patch, uintptr_t out, int threads) {
               const TensorView from = tensor_view(mask);
               Status status;
               {
                 py::gil_scoped_release release;
                 status = foreground_patches(from, patch, pointer<uint8_t>(out), threads);
               }
               check(status, "foreground_patches");
             });
  module.def(
      "pack_patches", [](const py::tuple& image, uintptr_t index, int64_t count,
                         const py::object& mask, int patch, const py::tuple& tokens, int threads) {
        const TensorView from = tensor_view(image);
        const MaskView m = mask_view(mask);
        const TokenView to = token_view(tokens);
        Status status;
        {
          py::gil_scoped_release release;
          status = pack_patches(from, pointer<const int64_t>(index), count, m, patch, to, threads);
        }
        check(status, "pack_patches");
      });
  module.def("unpack_patches", [](const py::object& tokens, uintptr_t slots,
                                  const py::object& image, const py::object& mask, int patch,
                                  const py::tuple& out, int threads) {
    const TokenView from = token_view(tokens);
    const TensorView under = tensor_view(image), to = tensor_view(out);
    const MaskView m = mask_view(mask);
    Status status;
    {
      py::gil_scoped_release release;
      status = unpack_patches(from, pointer<const int64_t>(slots), under, m, patch, to, threads);
    }
    check(status, "unpack_patches");
  });
  module.def("patch_mask_gradient", [](const py::tuple& grad, const py::tuple& tokens,
                                       uintptr_t index, int64_t count, const py::tuple& image,
                                       const py::object& mask, int patch,
                                       const py::tuple& grad_mask, int threads) {
    const TensorView g = tensor_view(grad), v = tensor_view(image);
    const TensorView to = tensor_view(grad_mask);
    const TokenView t = token_view(tokens);
    const MaskView m = mask_view(mask);
    Status status;
    {
      py::gil_scoped_release release;
      status =
          patch_mask_gradient(g, t, pointer<const int64_t>(index), count, v, m, patch, to, threads);
    }
    check(status, "patch_mask_gradient");
  });
}

}  // namespace vharm::python
