// SPDX-License-Identifier: Apache-2.0
// The attention family's views, from the tuples of vharm/ops/_attention_native.py.
#pragma once

#include "python/views.hpp"
#include "vharm/attention.hpp"

namespace vharm::python {

inline Positions positions(uintptr_t index, uintptr_t count, const TensorView& of) {
  return {pointer<const int32_t>(index), pointer<const int32_t>(count), of.h * of.w};
}

// A tensor view's tuple of the first of each stack, then how many and the stride between them.
inline StackView stack_view(const py::object& o) {
  const TensorView first = tensor_view(o);
  if (o.is_none()) return {first, 0, 0};
  const auto t = o.cast<py::tuple>();
  return {first, t[10].cast<int64_t>(), t[11].cast<int64_t>()};
}

}  // namespace vharm::python
