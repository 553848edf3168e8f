#pragma once

#include "tests/bench/fleet_flags.h"

namespace packcast::bench {

// A process of a fleet other than the first, which tells it what to do on its channel: a verb and
// arguments with blanks between. Never returns: it ends with the first.
//
//   join ADDRESS              comes into the cluster of the coordinator there, as a worker
//   train ADDRESS LIST        comes in as a further trainer rank, with weights of LIST
//   refill SEED, sync LABEL   as such
//   leave                     goes, gives its memory back, and meets the first
//   raw SIZE PIECES REPEATS   RawBroadcastRate among the first SIZE ranks
//   roots PIECES REPEATS      PrintTwoRoots among all
[[noreturn]] void ServeFleet(const FleetFlags& flags);

}  // namespace packcast::bench
