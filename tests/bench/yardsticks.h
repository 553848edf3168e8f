#pragma once

#include <cstdint>
#include <vector>

namespace packcast::bench {

// Latencies in microseconds, sorted.
struct Latencies {
  std::vector<double> us;
  double Percentile(double p) const;
};

// What the machine itself can do, measured in the same run as what is compared with it.

// Two threads that wake each other through a mutex and a condition variable: one round trip each.
Latencies ConditionVariablePingPong(int rounds);

// A bare ROUTER/DEALER echo over loopback TCP, 64 bytes, one at a time.
Latencies ZmqEcho(int rounds);

}  // namespace packcast::bench
