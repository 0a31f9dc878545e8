// SPDX-License-Identifier: Apache-2.0
// The functions of csrc/python/attention.cpp on the GPU: a stream instead of a number of threads.
#include "vharm/attention_cuda.hpp"

#include "python/attention_views.hpp"
#include "vharm/filters_cuda.hpp"  // last_problem

namespace vharm::python {
namespace {

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

void neighborhood(const py::object& query, const py::object& key, const py::object& value,
                  const py::object& mask, const py::object& key_mask, int64_t window, int heads,
                  float scale, const py::object& out, uintptr_t lse, uintptr_t stream) {
  const TensorView q = tensor_view(query), k = tensor_view(key), v = tensor_view(value);
  const TensorView to = tensor_view(out);
  const MaskView m = mask_view(mask), km = mask_view(key_mask);
  call("neighborhood_attention", [&] {
    return cuda::neighborhood_attention(q, k, v, m, km, window, heads, scale, to,
                                        pointer<float>(lse), pointer<void>(stream));
  });
}

void neighborhood_backward(const py::object& grad, const py::object& query, const py::object& key,
                           const py::object& value, const py::object& mask,
                           const py::object& key_mask, uintptr_t lse, int64_t window, int heads,
                           float scale, uintptr_t inner, const py::object& grad_query,
                           const py::object& grad_key, const py::object& grad_value,
                           uintptr_t stream) {
  const TensorView g = tensor_view(grad), q = tensor_view(query), k = tensor_view(key);
  const TensorView v = tensor_view(value), gq = tensor_view(grad_query);
  const TensorView gk = tensor_view(grad_key), gv = tensor_view(grad_value);
  const MaskView m = mask_view(mask), km = mask_view(key_mask);
  call("neighborhood_attention_backward", [&] {
    return cuda::neighborhood_attention_backward(g, q, k, v, m, km, pointer<const float>(lse),
                                                 window, heads, scale, pointer<float>(inner), gq,
                                                 gk, gv, pointer<void>(stream));
  });
}

void nonlocal(const py::object& query, const py::object& key, const py::object& value,
              uintptr_t query_index, uintptr_t query_count, uintptr_t key_index,
              uintptr_t key_count, int heads, float scale, const py::object& out, uintptr_t lse,
              uintptr_t stream) {
  const TensorView q = tensor_view(query), k = tensor_view(key), v = tensor_view(value);
  const TensorView to = tensor_view(out);
  const Positions own = positions(query_index, query_count, q);
  const Positions other = positions(key_index, key_count, k);
  call("nonlocal_attention", [&] {
    return cuda::nonlocal_attention(q, k, v, own, other, heads, scale, to, pointer<float>(lse),
                                    pointer<void>(stream));
  });
}

void nonlocal_backward(const py::object& grad, const py::object& query, const py::object& key,
                       const py::object& value, uintptr_t query_index, uintptr_t query_count,
                       uintptr_t key_index, uintptr_t key_count, const py::object& out,
                       uintptr_t lse, int heads, float scale, uintptr_t inner,
                       const py::object& grad_query, const py::object& grad_key,
                       const py::object& grad_value, uintptr_t stream) {
  const TensorView g = tensor_view(grad), q = tensor_view(query), k = tensor_view(key);
  const TensorView v = tensor_view(value), o = tensor_view(out), gq = tensor_view(grad_query);
  const TensorView gk = tensor_view(grad_key), gv = tensor_view(grad_value);
  const Positions own = positions(query_index, query_count, q);
  const Positions other = positions(key_index, key_count, k);
  call("nonlocal_attention_backward", [&] {
    return cuda::nonlocal_attention_backward(g, q, k, v, own, other, o, pointer<const float>(lse),
                                             heads, scale, pointer<float>(inner), gq, gk, gv,
                                             pointer<void>(stream));
  });
}

void gate(const py::object& theta, const py::object& phi, const py::object& feature,
          const py::object& mask, const py::object& out, uintptr_t stream) {
  const TensorView t = tensor_view(theta), p = tensor_view(phi), f = tensor_view(feature);
  const TensorView to = tensor_view(out);
  const MaskView m = mask_view(mask);
  call("similarity_gate",
       [&] { return cuda::similarity_gate(t, p, f, m, to, pointer<void>(stream)); });
}

void gate_backward(const py::object& grad, const py::object& theta, const py::object& phi,
                   const py::object& feature, const py::object& mask, const py::object& grad_theta,
                   const py::object& grad_phi, const py::object& grad_feature,
                   const py::object& grad_mask, uintptr_t stream) {
  const TensorView g = tensor_view(grad), t = tensor_view(theta), p = tensor_view(phi);
  const TensorView f = tensor_view(feature), gt = tensor_view(grad_theta);
  const TensorView gp = tensor_view(grad_phi), gf = tensor_view(grad_feature);
  const TensorView gm = tensor_view(grad_mask);
  const MaskView m = mask_view(mask);
  call("similarity_gate_backward", [&] {
    return cuda::similarity_gate_backward(g, t, p, f, m, gt, gp, gf, gm, pointer<void>(stream));
  });
}

void stack_mean(const py::object& neighbours, const py::object& own, const py::object& mask,
                const py::object& out, uintptr_t stream) {
  const StackView w = stack_view(neighbours), to = stack_view(out);
  const TensorView o = tensor_view(own);
  const MaskView m = mask_view(mask);
  call("gated_mean", [&] { return cuda::gated_mean(w, o, m, to, pointer<void>(stream)); });
}

void stack_mean_backward(const py::object& grad, const py::object& neighbours,
                         const py::object& own, const py::object& mask,
                         const py::object& grad_neighbours, const py::object& grad_own,
                         const py::object& grad_mask, uintptr_t stream) {
  const StackView g = stack_view(grad), w = stack_view(neighbours);
  const StackView gw = stack_view(grad_neighbours);
  const TensorView o = tensor_view(own), go = tensor_view(grad_own), gm = tensor_view(grad_mask);
  const MaskView m = mask_view(mask);
  call("gated_mean_backward",
       [&] { return cuda::gated_mean_backward(g, w, o, m, gw, go, gm, pointer<void>(stream)); });
}

}  // namespace

void bind_attention_cuda(py::module_& module) {
  module.def("neighborhood_attention", neighborhood);
  module.def("neighborhood_attention_backward", neighborhood_backward);
  module.def("nonlocal_attention", nonlocal);
  module.def("nonlocal_attention_backward", nonlocal_backward);
  module.def("similarity_gate", gate);
  module.def("similarity_gate_backward", gate_backward);
  module.def("gated_mean", stack_mean);
  module.def("gated_mean_backward", stack_mean_backward);
}

}  // namespace vharm::python
