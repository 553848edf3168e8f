#pragma once

#include <cstdint>
#include <string>

#include "tests/bench/duo.h"

namespace packcast::bench {

// What a second root would give, of NCCL alone: ranks 0 and 1 of a star have the weights, half of
// them each or rank 0 all, and the others receive; in pieces of 1 GiB, `pieces` in all, an even
// number. Rank 0 prints a table: bytes per second until all ranks are done, the median of `repeats`
// rounds. At least 3 ranks; device = rank, of which it takes 2 GiB for the while. `library`:
// libnccl.so.2; the system's if empty.
void PrintTwoRoots(const Place& place, const std::string& library, uint64_t pieces, int repeats);

}  // namespace packcast::bench
