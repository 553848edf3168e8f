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

// Whether threads that were busy a moment ago look for more work before they sleep. To wake a
// sleeping thread takes 20 to 60 us, five times for each message between processes: most of what an
// epoch's control costs. Not where there are fewer than 8 processors, whose other threads could use
// the time. PACKCAST_SPIN_US=0 turns it off, another number is the most for one thread.
bool Spins();

// How long the calling thread may spin from now on, after it had something to do: up to 1 ms, as
// long as the control of an epoch takes; less where its processor is wanted by others.
Duration SpinTime();

// Gives the processor's other threads a chance. False when they took it: sleep, do not spin on.
bool SpinPause();

// What one thread may spin. Halves whenever somebody else wanted its processor, and comes back with
// what it gets done undisturbed: many processes on one host would keep each other from working.
class SpinBudget {
 public:
  explicit SpinBudget(Duration most) : most_(most), present_(most) {}

  // For the time after a piece of work.
  Duration Next() {
    const Duration next = present_;
    present_ = std::min(most_, present_ + present_ / 8 + Microseconds(1));
    return next;
  }
  // It has stood aside for so long. False when others ran meanwhile.
  bool StoodAside(Duration pause) {
    if (pause < kUndisturbed) return true;
    present_ = std::max(present_ / 2, most_ / 64);
    return false;
  }

 private:
  static constexpr Duration kUndisturbed = Microseconds(15);

  const Duration most_;
  Duration present_;
};

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

  // With the mutex held, after the change: whether WakeOne must follow. `waiting`: changes that one
  // waiter each is to take; as many as spin are taken without waking anybody.
  [[nodiscard]] bool Changed(size_t waiting) {
    changes_.fetch_add(1);
    return waiting > spinners_ && sleepers_ > 0;
  }
  // Better without the mutex: who wakes up wants it, at once if it runs on the same processor.
  void WakeOne() { slept_.notify_one(); }
  // Both, with the mutex held.
  void NotifyOne(size_t waiting) {
    if (Changed(waiting)) WakeOne();
  }
  void NotifyAll() {
    changes_.fetch_add(1);
    if (sleepers_ > 0) slept_.notify_all();
  }

 private:
  // Who has waited for long with nothing to do sleeps at once: a loop that asks again and again
  // must not burn a processor.
  void Heat() {
    if (Spins()) hot_until_ = Now() + SpinTime();
  }

  template <class Ready>
  bool Spin(std::unique_lock<std::mutex>& lock, Time end, const Ready& ready) {
    if (ready()) return true;
    if (!Spins()) return false;
    const Time until = std::min(end, hot_until_);
    bool is_ready = false;
    bool may_spin = true;
    ++spinners_;
    while (!is_ready && may_spin && Now() < until) {
      const uint64_t seen = changes_.load();
      lock.unlock();
      while (may_spin && changes_.load() == seen && Now() < until) may_spin = SpinPause();
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
