// SPDX-License-Identifier: Apache-2.0
#include "runtime/memory.hpp"

#if defined(__GLIBC__)
#include <malloc.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#endif

#include "runtime/parallel.hpp"

namespace vharm {

#if defined(__linux__)
namespace {

constexpr int kPopulateWrite = 23;   // MADV_POPULATE_WRITE; older headers lack it
constexpr int64_t kLeast = 4 << 20;  // smaller blocks are mostly memory that was used before
constexpr uintptr_t kChunk = 2u << 20;

// Where memory is fragmented the system moves pages about to make large ones, which takes far
// longer than they save. A chunk of small pages takes half a millisecond of a thread's time; after
// kStrikes that took kSlow, one behind the other, no large pages are asked for until kPause has
// passed. (Single slow ones are common: a virtual machine's host maps memory as it is first used.)
constexpr int64_t kSlow = 2'000'000, kPause = 60'000'000'000;  // nanoseconds
constexpr int kStrikes = 16;
std::atomic<int64_t> g_small_until{0};
std::atomic<int> g_strikes{0};

int64_t nanoseconds(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return int64_t(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}
bool wants_large() {
  return nanoseconds(CLOCK_MONOTONIC) >= g_small_until.load(std::memory_order_relaxed);
}
void advise(uintptr_t begin, uintptr_t end, int advice) {
  if (begin < end) (void)madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

struct Range {
  uintptr_t first, last, page;

  int64_t chunks() const {
    return static_cast<int64_t>((last + kChunk - 1) / kChunk - first / kChunk);
  }
  uintptr_t begin(int64_t i) const {
    const uintptr_t edge = (first / kChunk + static_cast<uintptr_t>(i)) * kChunk;
    return edge < first ? first : edge;
  }
  uintptr_t end(int64_t i) const {
    const uintptr_t edge = begin(i) / kChunk * kChunk + kChunk;
    return edge < last ? edge : last;
  }
  bool is_mapped(uintptr_t address) const {
    unsigned char resident = 0;
    return mincore(reinterpret_cast<void*>(address), page, &resident) == 0 && (resident & 1) != 0;
  }
  // Memory is given back in long runs: both ends there means all of it is.
  bool is_ready(int64_t i) const { return is_mapped(begin(i)) && is_mapped(end(i) - page); }
};

void populate(const Range& range, int64_t i, bool large) {
  const int64_t start = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
  advise(range.begin(i), range.end(i), kPopulateWrite);
  if (!large) return;
  if (nanoseconds(CLOCK_THREAD_CPUTIME_ID) - start < kSlow) {
    g_strikes.store(0, std::memory_order_relaxed);
    return;
  }
  if (g_strikes.fetch_add(1, std::memory_order_relaxed) + 1 < kStrikes) return;
  g_strikes.store(0, std::memory_order_relaxed);
  g_small_until.store(nanoseconds(CLOCK_MONOTONIC) + kPause, std::memory_order_relaxed);
}

}  // namespace

void prefault(void* data, int64_t bytes, int threads) {
  if (data == nullptr || bytes < kLeast) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(data);
  const Range range{(address + page - 1) / page * page,
                    (address + static_cast<uintptr_t>(bytes)) / page * page, page};
  const int64_t chunks = range.chunks();
  bool ready = true;
  for (int64_t i = 0; i < chunks && ready; ++i) ready = range.is_ready(i);
  if (ready) return;
  const bool large = wants_large();
  const uintptr_t begin = (range.first + kChunk - 1) / kChunk * kChunk;
  const uintptr_t end = range.last / kChunk * kChunk;
  if (large) advise(begin, end, MADV_HUGEPAGE);
  parallel_for(chunks, threads, [&](int64_t i) {
    if (range.is_ready(i)) return;
    if (large && !wants_large()) advise(range.begin(i), range.end(i), MADV_NOHUGEPAGE);
    populate(range, i, large);
  });
}
#else
void prefault(void*, int64_t, int) {}
#endif

bool return_large_blocks(int64_t least) {
#if defined(__GLIBC__)
  // Once set, it no longer grows with the blocks that are freed.
  if (mallopt(M_MMAP_THRESHOLD, static_cast<int>(least)) != 1) return false;
  malloc_trim(0);
  return true;
#else
  (void)least;
  return false;
#endif
}

}  // namespace vharm
