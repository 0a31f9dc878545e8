// SPDX-License-Identifier: Apache-2.0
// The functions of csrc/python/tokens.cpp on the GPU: the same arguments, then a stream instead of
// a number of threads.
#include "vharm/tokens_cuda.hpp"

#include "python/token_views.hpp"
#include "vharm/filters_cuda.hpp"

namespace vharm::python {

namespace {

// A failure names what CUDA said.
void check_cuda(Status status, const char* function) {
  if (status == Status::launch_failed || status == Status::out_of_memory) {
    throw std::runtime_error(std::string(function) + ": CUDA: " + cuda::last_problem());
  }
  check(status, function);
}

}  // namespace

void bind_tokens_cuda(py::module_& module) {
  module.def("foreground_patches", [](const py::tuple& mask, int patch, uintptr_t out,
                                      uintptr_t stream) {
    const TensorView from = tensor_view(mask);
    Status status;
    {
      py::gil_scoped_release release;
      status = cuda::foreground_patches(from, patch, pointer<uint8_t>(out), pointer<void>(stream));
    }
    check_cuda(status, "foreground_patches");
  });
  module.def("pack_patches",
             [](const py::tuple& image, uintptr_t index, int64_t count, const py::object& mask,
                int patch, const py::tuple& tokens, uintptr_t stream) {
               const TensorView from = tensor_view(image);
               const MaskView m = mask_view(mask);
               const TokenView to = token_view(tokens);
               Status status;
               {
                 py::gil_scoped_release release;
                 status = cuda::pack_patches(from, pointer<const int64_t>(index), count, m, patch,
                                             to, pointer<void>(stream));
               }
               check_cuda(status, "pack_patches");
             });
  module.def("unpack_patches",
             [](const py::object& tokens, uintptr_t slots, const py::object& image,
                const py::object& mask, int patch, const py::tuple& out, uintptr_t stream) {
               const TokenView from = token_view(tokens);
               const TensorView under = tensor_view(image), to = tensor_view(out);
               const MaskView m = mask_view(mask);
               Status status;
               {
                 py::gil_scoped_release release;
                 status = cuda::unpack_patches(from, pointer<const int64_t>(slots), under, m, patch,
                                               to, pointer<void>(stream));
               }
               check_cuda(status, "unpack_patches");
             });
  module.def("patch_mask_gradient",
             [](const py::tuple& grad, const py::tuple& tokens, uintptr_t index, int64_t count,
                const py::tuple& image, const py::object& mask, int patch,
                const py::tuple& grad_mask, uintptr_t stream) {
               const TensorView g = tensor_view(grad), v = tensor_view(image);
               const TensorView to = tensor_view(grad_mask);
               const TokenView t = token_view(tokens);
               const MaskView m = mask_view(mask);
               Status status;
               {
                 py::gil_scoped_release release;
                 status = cuda::patch_mask_gradient(g, t, pointer<const int64_t>(index), count, v,
                                                    m, patch, to, pointer<void>(stream));
               }
               check_cuda(status, "patch_mask_gradient");
             });
}

}  // namespace vharm::python
