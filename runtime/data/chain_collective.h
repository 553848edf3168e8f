#pragma once

#include <memory>

#include "runtime/data/collective.h"
#include "runtime/data/transport.h"

namespace packcast {

// A broadcast as a chain: the root feeds the rank after it, that one the next, and so on round to
// the rank before the root. Each link is a collective of two, in which the feeder is rank 0 and the
// root. A rank between two links passes a step on, out of its own spans, as soon as it has arrived
// and the next rank has granted it; the spans are Spent once the next rank has it. So a step is
// Ready at the root when the first rank has granted it, and Done when that has it: what is further
// on is held back link by link. All else means what it means in one collective; a rank's Finish
// goes up when all after it have finished.
//
// `up` is null at the root, `down` at the last rank. An error below names the next rank as culprit,
// one above nobody: who feeds may have gone because of another.
std::unique_ptr<Collective> MakeChainCollective(const JoinOptions& options,
                                                std::unique_ptr<Collective> up,
                                                std::unique_ptr<Collective> down);

// The rank that `rank` reads from, of `size` in a chain.
constexpr uint32_t FeederOf(uint32_t rank, uint32_t size) { return (rank + size - 1) % size; }

// A rank's two links of such a chain, to join each by itself.
JoinOptions UpLink(const JoinOptions& options);
JoinOptions DownLink(const JoinOptions& options);

}  // namespace packcast
