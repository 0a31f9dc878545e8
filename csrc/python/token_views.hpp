// SPDX-License-Identifier: Apache-2.0
// From the tuples of vharm/ops/_tokens_native.py to the token kernels' views.
#pragma once

#include "python/views.hpp"
#include "vharm/tokens.hpp"

namespace vharm::python {

// (pointer, dtype); None is no tokens: data == nullptr.
inline TokenView token_view(const py::object& o) {
  if (o.is_none()) return {nullptr, DType::f32};
  const auto t = o.cast<py::tuple>();
  return {pointer<void>(t[0].cast<uintptr_t>()), static_cast<DType>(t[1].cast<int>())};
}

}  // namespace vharm::python
