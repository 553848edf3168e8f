#pragma once

#include <cstdint>
#include <deque>
#include <string>

namespace packcast::rtsim {

struct RunOptions {
  uint64_t seed = 1;
  bool record = false;
};

struct Stats {
  uint64_t steps = 0;
  uint64_t messages = 0;  // between processes: delivered, and lost
  uint64_t lost = 0;
  uint64_t jobs = 0;
  uint64_t ran = 0;
  uint64_t failed = 0;   // calls
  uint64_t refused = 0;  // tells

  void Add(const Stats& other);
  std::string ToString() const;
};

struct RunResult {
  std::string violation;  // empty: none
  uint64_t trace_hash = 0;
  std::deque<std::string> trace;  // when recorded
  Stats stats;
};

// Some processes' life on a simulated network: first with faults, then in peace, in which
// everything must come good.
RunResult RunSeed(const RunOptions& options);

}  // namespace packcast::rtsim
