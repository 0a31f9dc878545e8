// SPDX-License-Identifier: Apache-2.0
// The token family's functions for Python. Included once in a module, after on_cpu.hpp or
// on_cuda.hpp, which say where `kernels` run.
#pragma once

#include "python/token_views.hpp"

namespace vharm::python {

void bind_tokens(py::module_& module) {
  module.def("foreground_patches",
             [](const py::tuple& mask, int patch, uintptr_t out, const Where& where) {
               const TensorView from = tensor_view(mask);
               call("foreground_patches", [&] {
                 return kernels::foreground_patches(from, patch, pointer<uint8_t>(out), at(where));
               });
             });
  module.def("pack_patches",
             [](const py::tuple& image, uintptr_t index, int64_t count, const py::object& mask,
                int patch, const py::tuple& tokens, const Where& where) {
               const TensorView from = tensor_view(image);
               const MaskView m = mask_view(mask);
               const TokenView to = token_view(tokens);
               call("pack_patches", [&] {
                 return kernels::pack_patches(from, pointer<const int64_t>(index), count, m, patch,
                                              to, at(where));
               });
             });
  module.def("unpack_patches",
             [](const py::object& tokens, uintptr_t slots, const py::object& image,
                const py::object& mask, int patch, const py::tuple& out, const Where& where) {
               const TokenView from = token_view(tokens);
               const TensorView under = tensor_view(image), to = tensor_view(out);
               const MaskView m = mask_view(mask);
               call("unpack_patches", [&] {
                 return kernels::unpack_patches(from, pointer<const int64_t>(slots), under, m,
                                                patch, to, at(where));
               });
             });
  module.def("patch_mask_gradient",
             [](const py::tuple& grad, const py::tuple& tokens, uintptr_t index, int64_t count,
                const py::tuple& image, const py::object& mask, int patch,
                const py::tuple& grad_mask, const Where& where) {
               const TensorView g = tensor_view(grad), v = tensor_view(image);
               const TensorView to = tensor_view(grad_mask);
               const TokenView t = token_view(tokens);
               const MaskView m = mask_view(mask);
               call("patch_mask_gradient", [&] {
                 return kernels::patch_mask_gradient(g, t, pointer<const int64_t>(index), count, v,
                                                     m, patch, to, at(where));
               });
             });
}

}  // namespace vharm::python
