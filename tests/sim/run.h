#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "tests/sim/world.h"

namespace packcast::sim {

struct RunOptions {
  uint64_t seed = 1;
  uint32_t workers = 0;  // 0: by seed
  Mutation mutation = Mutation::kNone;
  bool record = false;
};

struct RunResult {
  std::string violation;  // empty: none
  uint64_t trace_hash = 0;
  std::deque<std::string> trace;  // when recorded
  Stats stats;
};

// One cluster's life: a first half with faults, then peace, in which everything must come good:
// calls resolve, survivors are idle and joined, a further sync commits, and every complete replica
// serves its version.
RunResult RunSeed(const RunOptions& options);

}  // namespace packcast::sim
