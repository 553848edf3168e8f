#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace packcast {

// Monotonic time, as machines see it. In a process it comes from the steady clock, in simulation
// from the virtual one; pure code never reads a clock.
using Duration = std::chrono::nanoseconds;
using Time = std::chrono::time_point<std::chrono::steady_clock, Duration>;

constexpr Duration Nanoseconds(int64_t n) { return Duration(n); }
constexpr Duration Microseconds(int64_t n) { return std::chrono::microseconds(n); }
constexpr Duration Milliseconds(int64_t n) { return std::chrono::milliseconds(n); }
constexpr Duration Seconds(int64_t n) { return std::chrono::seconds(n); }
constexpr double ToSeconds(Duration d) { return std::chrono::duration<double>(d).count(); }
constexpr int64_t ToMilliseconds(Duration d) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
}
constexpr Duration FromSeconds(double s) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s));
}

// A wait that a clock can be asked for: from now on and at most a year, so that "for ever"
// (Duration::max()) does not overflow the time it ends at.
constexpr Duration ClampedWait(Duration wait) {
  return std::clamp<Duration>(wait, Duration(0), std::chrono::hours(24 * 365));
}

}  // namespace packcast
