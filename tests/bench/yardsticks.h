#pragma once

#include <optional>
#include <vector>

namespace packcast::bench {

// Latencies in microseconds.
struct Latencies {
  std::vector<double> us;
  void Add(const Latencies& more) { us.insert(us.end(), more.us.begin(), more.us.end()); }
  double Percentile(double p) const;
};

// On which processors the two sides of a round trip are. On two idle ones each message wakes one
// up, which takes several times as long as a change of threads on one: comparisons are between
// equal placements.
struct Placement {
  std::optional<int> caller, callee;  // nothing: where the system likes
};

// Keeps this thread, and those that it makes from now on, on one processor; nothing: on any.
void StayOn(std::optional<int> processor);

// What the machine itself can do, measured in the same run as what is compared with it.

// Two threads that wake each other through a mutex and a condition variable: one round trip each.
Latencies ConditionVariablePingPong(int rounds, const Placement& where);

// A bare ROUTER/DEALER echo over loopback TCP, 64 bytes, one at a time. A context for each side, as
// two processes have.
Latencies ZmqEcho(int rounds, const Placement& where);

}  // namespace packcast::bench
