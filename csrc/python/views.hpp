// SPDX-License-Identifier: Apache-2.0
// From the tuples of vharm/ops/_native.py to the kernels' views, and from Status to exceptions.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "vharm/filters.hpp"
#include "vharm/types.hpp"

namespace vharm::python {

namespace py = pybind11;

template <class T>
T* pointer(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

inline ImageView image_view(const py::tuple& t) {
  const auto i = [&](int k) { return t[k].cast<int64_t>(); };
  return {pointer<void>(t[0].cast<uintptr_t>()),
          static_cast<DType>(t[1].cast<int>()),
          i(2),
          i(3),
          i(4),
          i(5),
          i(6),
          i(7),
          i(8)};
}

// None is no image: data == nullptr.
inline ImageView optional_image(const py::object& o) {
  if (o.is_none()) return {nullptr, DType::f32, 0, 0, 0, 0, 0, 0, 0};
  return image_view(o.cast<py::tuple>());
}

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

// None is a mask of ones.
inline MaskView mask_view(const py::object& o) {
  if (o.is_none()) return {nullptr, DType::f32, 0, 0, 0, 0.0f, 1.0f, 1.0f};
  const auto t = o.cast<py::tuple>();
  return {pointer<void>(t[0].cast<uintptr_t>()),
          static_cast<DType>(t[1].cast<int>()),
          t[2].cast<int64_t>(),
          t[3].cast<int64_t>(),
          t[4].cast<int64_t>(),
          t[5].cast<float>(),
          t[6].cast<float>(),
          t[7].cast<float>()};
}

// (pointer, dtype, h, w, stride h, stride w)
inline PlaneView plane_view(const py::tuple& t) {
  return {pointer<void>(t[0].cast<uintptr_t>()),
          static_cast<DType>(t[1].cast<int>()),
          t[2].cast<int64_t>(),
          t[3].cast<int64_t>(),
          t[4].cast<int64_t>(),
          t[5].cast<int64_t>()};
}

inline std::vector<PlaneView> plane_views(const py::tuple& t) {
  std::vector<PlaneView> views;
  for (const auto& item : t) views.push_back(plane_view(py::cast<py::tuple>(item)));
  return views;
}

struct Planes {
  PlaneView items[3];
};
inline Planes planes(const py::tuple& t) {
  return {{plane_view(t[0].cast<py::tuple>()), plane_view(t[1].cast<py::tuple>()),
           plane_view(t[2].cast<py::tuple>())}};
}

// (to_rgb[9], from_rgb[9], offset[3], maximum, log2_x, log2_y)
inline YuvFormat yuv_format(const py::tuple& t) {
  YuvFormat format;
  const auto fill = [&](int k, float* out, size_t n) {
    const auto values = t[k].cast<std::vector<float>>();
    if (values.size() != n) throw std::invalid_argument("yuv_format: wrong number of values");
    for (size_t i = 0; i < n; ++i) out[i] = values[i];
  };
  fill(0, format.to_rgb, 9);
  fill(1, format.from_rgb, 9);
  fill(2, format.offset, 3);
  format.maximum = t[3].cast<float>();
  format.log2_x = t[4].cast<int>();
  format.log2_y = t[5].cast<int>();
  return format;
}

// Keeps the codes alive beside the view of them.
struct Chain {
  std::vector<int> codes;
  FilterChain view;

  Chain(std::vector<int> filters, uintptr_t arguments, uintptr_t statistics, bool quantized)
      : codes(std::move(filters)),
        view{codes.data(), static_cast<int>(codes.size()), pointer<const float>(arguments),
             pointer<const float>(statistics), quantized} {}
};

inline void check(Status status, const char* function) {
  switch (status) {
    case Status::ok:
      return;
    case Status::unsupported:
      throw std::invalid_argument(std::string(function) + ": this case has no native kernel");
    case Status::out_of_memory:
      throw std::bad_alloc();
    case Status::launch_failed:
      throw std::runtime_error(std::string(function) + ": the kernel could not be launched");
  }
}

}  // namespace vharm::python
