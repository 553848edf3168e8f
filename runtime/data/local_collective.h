#pragma once

#include <memory>

#include "runtime/data/transport.h"

namespace packcast {

// Ranks in one process ("local"): members copy straight from the root's memory into their own, in
// their Poll. For tests, and for trainer and worker in one process. All ranks join through the same
// Transport object. Nothing is random in it: driven by one thread it is deterministic.
std::unique_ptr<Transport> MakeLocalTransport();

}  // namespace packcast
