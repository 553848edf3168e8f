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
// epoch's control costs. 1 ms, as long as the control of an epoch takes; nothing where there are
// fewer than 8 processors, whose other threads could use the time. PACKCAST_SPIN_US overrides it.
Duration SpinTime();

// Gives the processor's other threads a chance.
void SpinPause();

// A condition variable whose waiters spin for a while after they had something to do. The mutex
// that the calls name is the same always, and guards what `ready` looks at.
class SpinCondition {
 public:
  template <class Ready>
  void Wait(std::unique_lock<std::mutex>& lock, Ready ready) {
    if (!Spin(lock, Time::max(), ready)) {
      ++sleepers_;
      slept_.wait(lock, ready);
      --sleepers_;
    }
    Heat();
  }
  // False when `ready` is not so after `wait`.
  template <class Ready>
  bool WaitFor(std::unique_lock<std::mutex>& lock, Duration wait, Ready ready) {
    if (wait <= Duration::zero()) return ready();
    const Time end = Now() + ClampedWait(wait);
    bool is_ready = Spin(lock, end, ready);
    if (!is_ready) {
      ++sleepers_;
      is_ready = slept_.wait_until(lock, end, ready);
      --sleepers_;
    }
    if (is_ready) Heat();
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
  // Who has waited for long with nothing to do sleeps at once: a loop that asks again and again
  // must not burn a processor.
  void Heat() {
    if (SpinTime() > Duration::zero()) hot_until_ = Now() + SpinTime();
  }

  template <class Ready>
  bool Spin(std::unique_lock<std::mutex>& lock, Time end, const Ready& ready) {
    if (ready()) return true;
    if (SpinTime() <= Duration::zero()) return false;
    const Time until = std::min(end, hot_until_);
    bool is_ready = false;
    ++spinners_;
    while (!is_ready && Now() < until) {
      const uint64_t seen = changes_.load();
      lock.unlock();
      while (changes_.load() == seen && Now() < until) SpinPause();
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
  Time hot_until_{};
};

}  // namespace packcast
