// SPDX-License-Identifier: Apache-2.0
// A thread pool that survives fork: DataLoader workers fork, and an OpenMP region entered before a
// fork hangs after it. A child starts with no workers and makes its own when it needs them.
#pragma once

#include <cstdint>

namespace vharm {

// Calls fn(context, i) once for every i in [0, n), on up to `threads` threads including the
// caller's, in no particular order. Calls from several threads at once share the pool: the second
// runs on its own thread alone rather than waiting.
void parallel_for(int64_t n, int threads, void (*fn)(void*, int64_t), void* context);

// The same for a lambda; the instantiation carries the lambda's own name, so it is not shared
// between instruction sets.
template <class Body>
inline void parallel_for(int64_t n, int threads, const Body& body) {
  parallel_for(
      n, threads, [](void* context, int64_t i) { (*static_cast<const Body*>(context))(i); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace vharm
