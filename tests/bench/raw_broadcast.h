#pragma once

#include <cstdint>
#include <string>

#include "tests/bench/duo.h"

namespace packcast::bench {

// Bytes per second of ncclBroadcast from rank 0 to rank 1 of a duo, in pieces of 1 GiB, `pieces` of
// them one after another: the ceiling that others are compared with. The median of `repeats`
// rounds, as rank 0 sees it. Takes 1 GiB of each device for the while. `library`: libnccl.so.2; the
// system's if empty.
double RawBroadcastRate(Channel* channel, int rank, const std::string& library, uint64_t pieces,
                        int repeats);

}  // namespace packcast::bench
