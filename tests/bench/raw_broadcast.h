#pragma once

#include <cstdint>
#include <string>

#include "tests/bench/duo.h"

namespace packcast::bench {

// Bytes per second of ncclBroadcast from rank 0 to all others of a star, in pieces of 1 GiB,
// `pieces` of them one after another: the ceiling that others are compared with. Of the median of
// `repeats` rounds, each from its begin until all ranks are done; counts at rank 0. Device = rank,
// of which it takes 1 GiB for the while. `library`: libnccl.so.2; the system's if empty.
double RawBroadcastRate(const Place& place, const std::string& library, uint64_t pieces,
                        int repeats);

}  // namespace packcast::bench
