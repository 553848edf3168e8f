#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/scenario.h"
#include "tests/sim/world.h"

namespace packcast::sim {

struct RunOptions {
  uint64_t seed = 1;
  uint32_t workers = 0;  // 0: by seed
  uint32_t calls = 0;    // at most so many; 0: by seed
  Traits without;
  std::optional<std::vector<uint32_t>> only;  // of the faults, by their numbers; none: all
  Mutation mutation = Mutation::kNone;
  size_t lines = 0;  // of the trace, the last ones
};

struct RunResult {
  std::string violation;  // empty: none
  uint64_t trace_hash = 0;
  std::deque<std::string> trace;
  std::vector<uint32_t> faults;  // those that happened, by their numbers
  uint32_t workers = 0;
  uint32_t calls = 0;  // of the scenario
  Stats stats;
};

// One cluster's life: a first half with faults, then peace, in which everything must come good:
// calls resolve, survivors are idle and joined, a further sync commits, and every complete replica
// serves its version.
RunResult RunSeed(const RunOptions& options);

}  // namespace packcast::sim
