#pragma once

#include <memory>

#include "runtime/data/collective.h"
#include "runtime/data/transport.h"
#include "runtime/data/wire.h"

namespace packcast {

// A collective without words, over a wire alone: for ranks that know nothing of packcast and launch
// what they have worked out by themselves (Layout::kCompat). Every rank counts as having granted
// everything, so this one launches whenever it likes and the wire waits for the others. What that
// costs:
// - Rows and settings that differ are not found out: the wire waits for ever, or bytes go wrong.
// - Nothing is sealed: Launch of an operation with `sealed`, and Seal, are kInvalidArgument.
//   BroadcastOptions::hash must be off.
// - Nobody tells a member how many steps there are: it says End itself, at any time after Begin,
//   with the number of its own plan.
// - Finished at a root means that it has ended. Only the ranks' own ways can tell when all have
//   everything, and until then none may be destroyed.
// - Abort stops this rank only, and nobody is a culprit: deadlines are all there is.
// Streams have no names here: ranks begin them in the same order. `options.rendezvous` is not used,
// and the wire is not one-sided.
std::unique_ptr<Collective> MakeSilentCollective(const JoinOptions& options,
                                                 std::unique_ptr<Wire> wire);

}  // namespace packcast
