// SPDX-License-Identifier: Apache-2.0
// From the tuples of vharm/ops/_warp_native.py to TensorView.
#pragma once

#include "python/views.hpp"
#include "vharm/warp.hpp"

namespace vharm::python {

// (pointer, dtype, n, c, h, w, strides in the same order); None is no tensor: data == nullptr.
inline TensorView tensor_view(const py::object& o) {
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

}  // namespace vharm::python
