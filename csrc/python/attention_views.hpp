// SPDX-License-Identifier: Apache-2.0
// The attention family's views, from the tuples of vharm/ops/_attention_native.py.
#pragma once

#include "python/views.hpp"
#include "vharm/attention.hpp"

namespace vharm::python {

// (pointer, dtype, n, c, h, w, stride n, c, h, w); None is not wanted: data == nullptr.
inline FeatureView feature_view(const py::object& o) {
  if (o.is_none()) return {nullptr, DType::f32, 0, 0, 0, 0, 0, 0, 0, 0};
  const auto t = o.cast<py::tuple>();
  const auto i = [&](int k) { return t[k].cast<int64_t>(); };
  return {pointer<void>(t[0].cast<uintptr_t>()),
          static_cast<DType>(t[1].cast<int>()),
          i(2),
          i(3),
          i(4),
          i(5),
          i(6),
          i(7),
          i(8),
          i(9)};
}

inline Positions positions(uintptr_t index, uintptr_t count, const FeatureView& of) {
  return {pointer<const int32_t>(index), pointer<const int32_t>(count), of.h * of.w};
}

}  // namespace vharm::python
