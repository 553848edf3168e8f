#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "protocol/time.h"
#include "runtime/base/clock.h"

namespace packcast {

// How long a thread that was busy a moment ago looks for more work before it sleeps. To wake a
// sleeping thread takes 20 to 60 us, five times for each message between processes: most of what an
// epoch's control costs. 300 us, the time of a few round trips; nothing where there are fewer than
// 8 processors, whose other threads could use the time. PACKCAST_SPIN_US overrides it.
Duration SpinTime();

// Gives the processor's other threads a chance.
void SpinPause();

// A condition variable whose waiters spin first. The mutex that the calls name is the same always,
// and guards what `ready` looks at.
class SpinCondition {
 public:
  template <class Ready>
  void Wait(std::unique_lock<std::mutex>& lock, Ready ready) {
    if (Spin(lock, SpinTime(), ready)) return;
    ++sleepers_;
    slept_.wait(lock, ready);
    --sleepers_;
  }
  // False when `ready` is not so after `wait`.
  template <class Ready>
  bool WaitFor(std::unique_lock<std::mutex>& lock, Duration wait, Ready ready) {
    const Duration spin = std::min(SpinTime(), wait);
    if (Spin(lock, spin, ready)) return true;
    ++sleepers_;
    const bool is_ready = slept_.wait_for(lock, wait - spin, ready);
    --sleepers_;
    return is_ready;
  }

  // With the mutex held, after the change. `waiting`: changes that one waiter each is to take; as
  // many as spin are taken without waking anybody.
  void NotifyOne(size_t waiting) {
    changes_.fetch_add(1);
    if (waiting > spinners_ && sleepers_ > 0) slept_.notify_one();
  }
  void NotifyAll() {
    changes_.fetch_add(1);
    if (sleepers_ > 0) slept_.notify_all();
  }

 private:
  template <class Ready>
  bool Spin(std::unique_lock<std::mutex>& lock, Duration time, const Ready& ready) {
    if (ready()) return true;
    if (time <= Duration::zero()) return false;
    const Time end = Now() + time;
    bool is_ready = false;
    ++spinners_;
    while (!is_ready && Now() < end) {
      const uint64_t seen = changes_.load();
      lock.unlock();
      while (changes_.load() == seen && Now() < end) SpinPause();
      lock.lock();
      is_ready = ready();
    }
    --spinners_;
    return is_ready;
  }

  std::condition_variable slept_;
  std::atomic<uint64_t> changes_{0};
  // Guarded by the mutex.
  size_t spinners_ = 0;
  size_t sleepers_ = 0;
};

}  // namespace packcast
