// SPDX-License-Identifier: Apache-2.0
// The attention family's views, from the tuples of vharm/ops/_attention_native.py.
#pragma once

#include "python/views.hpp"
#include "vharm/attention.hpp"

namespace vharm::python {

inline Positions positions(uintptr_t index, uintptr_t count, const TensorView& of) {
  return {pointer<const int32_t>(index), pointer<const int32_t>(count), of.h * of.w};
}

}  // namespace vharm::python
