// SPDX-License-Identifier: Apache-2.0
#include "runtime/memory.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "runtime/parallel.hpp"

namespace vharm {

#if defined(__linux__)
namespace {

constexpr int kPopulateWrite = 23;   // MADV_POPULATE_WRITE; older headers lack it
constexpr int64_t kLeast = 4 << 20;  // below this allocators keep memory, and give it again
constexpr uintptr_t kChunk = 1u << 20;

bool is_mapped(uintptr_t address, size_t page) {
  unsigned char resident = 0;
  return mincore(reinterpret_cast<void*>(address), page, &resident) == 0 && (resident & 1) != 0;
}

}  // namespace

void prefault(void* data, int64_t bytes, int threads) {
  if (data == nullptr || bytes < kLeast) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const auto last =
      (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) / page * page;
  const auto chunks = static_cast<int64_t>((last - first + kChunk - 1) / kChunk);
  parallel_for(chunks, threads, [&](int64_t i) {
    const uintptr_t begin = first + static_cast<uintptr_t>(i) * kChunk;
    const uintptr_t end = begin + kChunk < last ? begin + kChunk : last;
    // Memory is given back and mapped in long runs: both ends there means all of it is.
    if (is_mapped(begin, page) && is_mapped(end - page, page)) return;
    (void)madvise(reinterpret_cast<void*>(begin), end - begin, kPopulateWrite);
  });
}
#else
void prefault(void*, int64_t, int) {}
#endif

}  // namespace vharm
