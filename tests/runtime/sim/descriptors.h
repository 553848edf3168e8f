#pragma once

#include <poll.h>

#include <cstddef>
#include <map>

#include "tests/runtime/sim/kernel.h"

namespace packcast::rtsim {

// The descriptors of a simulation, which are only ever waited for: each is raised or not.
class Descriptors {
 public:
  explicit Descriptors(Kernel* kernel) : kernel_(kernel) {}
  // Those of the simulation that runs.
  static Descriptors& Of(Kernel& kernel);
  static bool IsOurs(int fd) { return fd >= kFirst; }

  int Open();
  void Close(int fd);
  void Raise(int fd);
  void Lower(int fd);
  bool is_raised(int fd) const { return states_.at(fd).is_raised; }
  // poll(2).
  int Poll(pollfd* items, size_t count, int milliseconds);

 private:
  // Far from those of the system.
  static constexpr int kFirst = 1 << 20;

  struct State {
    bool is_raised = false;
    const void* poller = nullptr;  // what who polls it waits for
  };
  int Count(pollfd* items, size_t count) const;

  Kernel* const kernel_;
  int last_ = kFirst;
  std::map<int, State> states_;
};

}  // namespace packcast::rtsim
