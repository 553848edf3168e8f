#pragma once

#include "protocol/time.h"

namespace packcast::sim {

// A process's own clock. It never goes back, but its origin is its own, it is somewhat fast or
// slow, and it stands still while its machine sleeps. No two processes may compare theirs.
class Clock {
 public:
  Clock() = default;
  // `parts`: of a thousand, by which it is fast (or slow, if negative).
  Clock(Time world, Duration origin, int64_t parts)
      : world_(world), local_(origin), rate_(1000 + parts) {}

  Time Read(Time world) const { return local_ + (world - world_) * rate_ / 1000; }
  // When it has gone on by `local`, the world has by this, rounded up.
  Duration ToWorld(Duration local) const {
    return Duration((local.count() * 1000 + rate_ - 1) / rate_);
  }
  // It stood still for so long, until now.
  void StoodStill(Duration how_long) { local_ -= how_long * rate_ / 1000; }

 private:
  Time world_{};
  Time local_{};
  int64_t rate_ = 1000;
};

}  // namespace packcast::sim
