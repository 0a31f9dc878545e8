// SPDX-License-Identifier: Apache-2.0
#include "runtime/parallel.hpp"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace vharm {
namespace {

struct Job {
  void (*fn)(void*, int64_t);
  void* context;
  int64_t n;
  std::atomic<int64_t> next{0};

  void work() {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) fn(context, i);
  }
};

class Pool {
 public:
  // One job at a time; false when the pool is busy with another.
  bool run(Job& job, int helpers) {
    std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
    if (!owner.owns_lock()) return false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      grow(helpers);
      job_ = &job;
      seats_ = helpers;
      ++ticket_;
    }
    wake_.notify_all();
    job.work();
    std::unique_lock<std::mutex> lock(mutex_);
    seats_ = 0;  // whoever has not started by now has nothing left to do
    done_.wait(lock, [this] { return running_ == 0; });
    job_ = nullptr;
    return true;
  }

 private:
  void grow(int helpers) {
    while (static_cast<int>(threads_.size()) < helpers) {
      try {
        threads_.emplace_back([this] { loop(); });
        threads_.back().detach();
      } catch (const std::system_error&) {
        return;  // no more threads to be had: the caller does the rest
      }
    }
  }

  void loop() {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return ticket_ != seen; });
      seen = ticket_;
      if (seats_ <= 0 || job_ == nullptr) continue;
      --seats_;
      ++running_;
      Job* job = job_;
      lock.unlock();
      job->work();
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::mutex owner_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
  Job* job_ = nullptr;
  int seats_ = 0, running_ = 0;
  uint64_t ticket_ = 0;
};

// Never destroyed: its threads may still be waiting when the process ends.
std::atomic<Pool*> g_pool{nullptr};
std::mutex g_create;

Pool& pool() {
  Pool* found = g_pool.load(std::memory_order_acquire);
  if (found != nullptr) return *found;
  std::lock_guard<std::mutex> lock(g_create);
  found = g_pool.load(std::memory_order_acquire);
  if (found == nullptr) {
#if !defined(_WIN32)
    static const int registered = pthread_atfork([] { g_create.lock(); }, [] { g_create.unlock(); },
                                                 [] {
                                                   // The parent's threads do not exist here, and
                                                   // its locks may be held for ever: leave the old
                                                   // pool alone and start afresh.
                                                   new (&g_create) std::mutex;
                                                   g_pool.store(nullptr, std::memory_order_release);
                                                 });
    (void)registered;
#endif
    found = new Pool;
    g_pool.store(found, std::memory_order_release);
  }
  return *found;
}

}  // namespace

void parallel_for(int64_t n, int threads, void (*fn)(void*, int64_t), void* context) {
  if (n <= 0) return;
  const int helpers = static_cast<int>(n < threads ? n : threads) - 1;
  if (helpers > 0) {
    Job job{fn, context, n, {}};
    if (pool().run(job, helpers)) return;
  }
  for (int64_t i = 0; i < n; ++i) fn(context, i);
}

}  // namespace vharm
