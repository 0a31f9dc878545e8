// SPDX-License-Identifier: Apache-2.0
// What packing and unpacking share: how samples lie, and when stores go past the cache.
#pragma once

#include "cpu/patch_rows.hpp"
#include "vharm/tokens.hpp"

namespace vharm {
namespace VHARM_ISA {

// planar3: each of three channels a run; packed: a pixel's channels side by side, as in a token.
enum class Arrangement { planar3, packed, strided };

VHARM_HD Arrangement arrangement_of(const TensorView& v) {
  if ((v.sc == 1 || v.c == 1) && v.sw == v.c) return Arrangement::packed;
  return v.c == 3 && v.sw == 1 ? Arrangement::planar3 : Arrangement::strided;
}

// Above this much output nothing of it would still be in the cache when it is read.
constexpr int64_t kStreamBytes = 16 << 20;

// Whether an output of `bytes` bytes, written in runs of `run` bytes, is to be streamed.
VHARM_HD bool streams(const void* data, int64_t bytes, int64_t run) {
  return bytes >= kStreamBytes && reinterpret_cast<uintptr_t>(data) % 64 == 0 && run % 64 == 0;
}

// How many pieces of `bytes` bytes of output make a task: up to 2 MiB where that leaves enough
// tasks for the threads. Two threads that first touch one large page of fresh memory both clear it.
VHARM_HD int64_t pieces_per_task(int64_t pieces, int64_t bytes, int threads) {
  const int64_t large = (int64_t(2) << 20) / (bytes > 0 ? bytes : 1);
  const int64_t fair = pieces / (4 * int64_t(threads));
  const int64_t few = large < fair ? large : fair;
  const int64_t least = (int64_t(64) << 10) / (bytes > 0 ? bytes : 1);
  const int64_t found = few > least ? few : least;
  return found > 1 ? found : 1;
}

}  // namespace VHARM_ISA
}  // namespace vharm
