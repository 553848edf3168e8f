#pragma once

#include <memory>

#include "runtime/data/collective.h"
#include "runtime/data/shm_arena.h"
#include "runtime/data/shm_board.h"
#include "runtime/data/transport.h"

namespace packcast {

// The two ends of a collective whose words travel over `control` (ZmqTransportOptions::
// read_in_place) and whose bytes stay where they are. `arena` outlives the root.
std::unique_ptr<Collective> MakeShmRoot(const JoinOptions& options,
                                        std::unique_ptr<Collective> control, const ShmArena* arena,
                                        std::unique_ptr<ShmBoard> board);
std::unique_ptr<Collective> MakeShmMember(const JoinOptions& options,
                                          std::unique_ptr<Collective> control, uint64_t root_pid,
                                          ShmBoardView board);

}  // namespace packcast
