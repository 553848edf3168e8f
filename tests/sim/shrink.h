#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "tests/sim/run.h"

namespace packcast::sim {

// "S5" of "S5: 1.3/1 is decided before worker-0 has staged", or the text without its numbers.
std::string KindOf(const std::string& violation);

struct Shrunk {
  RunOptions options;
  RunResult result;
  size_t runs = 0;  // that it took to find it
};

// A smaller run with the same kind of violation as `failing` has: fewer epochs, workers and faults,
// a plainer scenario. Tries at most `runs_max` runs. `failing` itself when nothing can go.
Shrunk Shrink(const RunOptions& failing, size_t runs_max);

// The flags of explore that make it run `options` again.
std::string FlagsOf(const RunOptions& options);

}  // namespace packcast::sim
