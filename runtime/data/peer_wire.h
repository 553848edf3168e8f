#pragma once

#include <memory>

#include "protocol/status.h"
#include "protocol/time.h"
#include "protocol/value.h"
#include "runtime/data/peer_memory.h"
#include "runtime/data/wire.h"

namespace packcast {

// One-sided: the root says where bytes lie (PeerNote), the member copies them to where they belong.
// Nobody but a member itself ever writes its memory, so an abort there has only its own copies to
// wait for, however dead or frozen the root is (S9). A root that goes on while a member still reads
// spoils bytes that nobody will keep: the attempt has been given up. `memory` is this rank's own
// view; a relay's two wires, on one thread, may share it.
std::unique_ptr<Wire> MakePeerRoot(std::shared_ptr<PeerMemory> memory);

inline constexpr uint64_t kPeerProbeBytes = 4096;

struct PeerMemberOptions {
  // An allocation of the root's that this member copies kPeerProbeBytes of, to `scratch`, before it
  // is up; so who cannot read the root's memory says so when it joins.
  Bytes probe;
  std::byte* scratch = nullptr;
  // Maps buffers instead of copying them (Wire::reads_in_place).
  bool in_place = false;
  Duration drain = Seconds(5);  // bounds an abort
};

// Errors: those of PeerMemory::Open.
StatusOr<std::unique_ptr<Wire>> MakePeerMember(std::shared_ptr<PeerMemory> memory,
                                               const PeerMemberOptions& options);

}  // namespace packcast
