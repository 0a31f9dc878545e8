// SPDX-License-Identifier: Apache-2.0
// The attention family's functions for Python. Included once in a module, after on_cpu.hpp or
// on_cuda.hpp, which say where `kernels` run.
#pragma once

#include "python/attention_views.hpp"

namespace vharm::python {
namespace {

void neighborhood(const py::object& query, const py::object& key, const py::object& value,
                  const py::object& mask, const py::object& key_mask, int64_t window, int heads,
                  float scale, const py::object& out, uintptr_t lse, const Where& where) {
  const TensorView q = tensor_view(query), k = tensor_view(key), v = tensor_view(value);
  const TensorView to = tensor_view(out);
  const MaskView m = mask_view(mask), km = mask_view(key_mask);
  call("neighborhood_attention", [&] {
    return kernels::neighborhood_attention(q, k, v, m, km, window, heads, scale, to,
                                           pointer<float>(lse), at(where));
  });
}

void neighborhood_backward(const py::object& grad, const py::object& query, const py::object& key,
                           const py::object& value, const py::object& mask,
                           const py::object& key_mask, uintptr_t lse, int64_t window, int heads,
                           float scale, uintptr_t inner, const py::object& grad_query,
                           const py::object& grad_key, const py::object& grad_value,
                           const Where& where) {
  const TensorView g = tensor_view(grad), q = tensor_view(query), k = tensor_view(key);
  const TensorView v = tensor_view(value), gq = tensor_view(grad_query);
  const TensorView gk = tensor_view(grad_key), gv = tensor_view(grad_value);
  const MaskView m = mask_view(mask), km = mask_view(key_mask);
  call("neighborhood_attention_backward", [&] {
    return kernels::neighborhood_attention_backward(g, q, k, v, m, km, pointer<const float>(lse),
                                                    window, heads, scale, pointer<float>(inner), gq,
                                                    gk, gv, at(where));
  });
}

void nonlocal(const py::object& query, const py::object& key, const py::object& value,
              uintptr_t query_index, uintptr_t query_count, uintptr_t key_index,
              uintptr_t key_count, int heads, float scale, const py::object& out, uintptr_t lse,
              const Where& where) {
  const TensorView q = tensor_view(query), k = tensor_view(key), v = tensor_view(value);
  const TensorView to = tensor_view(out);
  const Positions own = positions(query_index, query_count, q);
  const Positions other = positions(key_index, key_count, k);
  call("nonlocal_attention", [&] {
    return kernels::nonlocal_attention(q, k, v, own, other, heads, scale, to, pointer<float>(lse),
                                       at(where));
  });
}

void nonlocal_backward(const py::object& grad, const py::object& query, const py::object& key,
                       const py::object& value, uintptr_t query_index, uintptr_t query_count,
                       uintptr_t key_index, uintptr_t key_count, const py::object& out,
                       uintptr_t lse, int heads, float scale, uintptr_t inner,
                       const py::object& grad_query, const py::object& grad_key,
                       const py::object& grad_value, const Where& where) {
  const TensorView g = tensor_view(grad), q = tensor_view(query), k = tensor_view(key);
  const TensorView v = tensor_view(value), o = tensor_view(out), gq = tensor_view(grad_query);
  const TensorView gk = tensor_view(grad_key), gv = tensor_view(grad_value);
  const Positions own = positions(query_index, query_count, q);
  const Positions other = positions(key_index, key_count, k);
  call("nonlocal_attention_backward", [&] {
    return kernels::nonlocal_attention_backward(g, q, k, v, own, other, o,
                                                pointer<const float>(lse), heads, scale,
                                                pointer<float>(inner), gq, gk, gv, at(where));
  });
}

void gate(const py::object& theta, const py::object& phi, const py::object& feature,
          const py::object& mask, const py::object& out, const Where& where) {
  const TensorView t = tensor_view(theta), p = tensor_view(phi), f = tensor_view(feature);
  const TensorView to = tensor_view(out);
  const MaskView m = mask_view(mask);
  call("similarity_gate", [&] { return kernels::similarity_gate(t, p, f, m, to, at(where)); });
}

void gate_backward(const py::object& grad, const py::object& theta, const py::object& phi,
                   const py::object& feature, const py::object& mask, const py::object& grad_theta,
                   const py::object& grad_phi, const py::object& grad_feature,
                   const py::object& grad_mask, const Where& where) {
  const TensorView g = tensor_view(grad), t = tensor_view(theta), p = tensor_view(phi);
  const TensorView f = tensor_view(feature), gt = tensor_view(grad_theta);
  const TensorView gp = tensor_view(grad_phi), gf = tensor_view(grad_feature);
  const TensorView gm = tensor_view(grad_mask);
  const MaskView m = mask_view(mask);
  call("similarity_gate_backward",
       [&] { return kernels::similarity_gate_backward(g, t, p, f, m, gt, gp, gf, gm, at(where)); });
}

void stack_mean(const py::object& neighbours, const py::object& own, const py::object& mask,
                const py::object& out, const Where& where) {
  const StackView w = stack_view(neighbours), to = stack_view(out);
  const TensorView o = tensor_view(own);
  const MaskView m = mask_view(mask);
  call("gated_mean", [&] { return kernels::gated_mean(w, o, m, to, at(where)); });
}

void stack_mean_backward(const py::object& grad, const py::object& neighbours,
                         const py::object& own, const py::object& mask,
                         const py::object& grad_neighbours, const py::object& grad_own,
                         const py::object& grad_mask, const Where& where) {
  const StackView g = stack_view(grad), w = stack_view(neighbours);
  const StackView gw = stack_view(grad_neighbours);
  const TensorView o = tensor_view(own), go = tensor_view(grad_own), gm = tensor_view(grad_mask);
  const MaskView m = mask_view(mask);
  call("gated_mean_backward",
       [&] { return kernels::gated_mean_backward(g, w, o, m, gw, go, gm, at(where)); });
}

}  // namespace

void bind_attention(py::module_& module) {
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
