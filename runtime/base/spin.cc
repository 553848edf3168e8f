#include "runtime/base/spin.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace packcast {
namespace {

constexpr Duration kSpin = Milliseconds(1);
constexpr unsigned kProcessorsMin = 8;
constexpr int64_t kSpinMostUs = 100'000;

Duration ChooseMost() {
  if (const char* text = std::getenv("PACKCAST_SPIN_US")) {
    int64_t us = 0;
    const char* const end = text + std::strlen(text);
    const auto result = std::from_chars(text, end, us);
    if (result.ec == std::errc() && result.ptr == end) {
      return Microseconds(std::clamp<int64_t>(us, 0, kSpinMostUs));
    }
  }
  return std::thread::hardware_concurrency() < kProcessorsMin ? Duration::zero() : kSpin;
}

Duration Most() {
  static const Duration most = ChooseMost();
  return most;
}

SpinBudget& Budget() {
  thread_local SpinBudget budget(Most());
  return budget;
}

}  // namespace

bool Spins() { return Most() > Duration::zero(); }

Duration SpinTime() { return Budget().Next(); }

bool SpinPause() {
  constexpr int kPauses = 32;
  for (int k = 0; k < kPauses; ++k) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  const Time before = Now();
  sched_yield();
  return Budget().StoodAside(Now() - before);
}

}  // namespace packcast
