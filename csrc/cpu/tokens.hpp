// SPDX-License-Identifier: Apache-2.0
// What packing and unpacking share: how samples lie, and when stores go past the cache.
#pragma once

#include "cpu/patch_rows.hpp"
#include "vharm/tokens.hpp"

namespace vharm {
namespace VHARM_ISA {

// planar3: each of three channels a run; packed: a pixel's channels side by side, as in a token.
enum class Arrangement { planar3, packed, strided };

VHARM_HD Arrangement arrangement_of(const PatchImage& v) {
  if ((v.sc == 1 || v.c == 1) && v.sw == v.c) return Arrangement::packed;
  return v.c == 3 && v.sw == 1 ? Arrangement::planar3 : Arrangement::strided;
}

// Above this much output nothing of it would still be in the cache when it is read.
constexpr int64_t kStreamBytes = 16 << 20;

// Whether an output of `bytes` bytes, written in runs of `run` bytes, is to be streamed.
VHARM_HD bool streams(const void* data, int64_t bytes, int64_t run) {
  return bytes >= kStreamBytes && reinterpret_cast<uintptr_t>(data) % 64 == 0 && run % 64 == 0;
}

}  // namespace VHARM_ISA
}  // namespace vharm
