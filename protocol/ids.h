#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace packcast {

// An integer that cannot be mistaken for another kind of integer.
template <class Tag>
struct StrongId {
  uint64_t value = 0;
  constexpr StrongId() = default;
  constexpr explicit StrongId(uint64_t v) : value(v) {}
  friend constexpr auto operator<=>(const StrongId&, const StrongId&) = default;
};

// One life of a process or actor: random, never 0 for a live one, compared for equality only.
using Incarnation = StrongId<struct IncarnationTag>;
// Counts weight-sync epochs within a term, from 1.
using EpochId = StrongId<struct EpochIdTag>;
// Counts tries within an epoch, from 1.
using Attempt = StrongId<struct AttemptTag>;
// One communicator's life. Unique within a term; never reused.
using GenerationId = StrongId<struct GenerationIdTag>;
// Index of a flow within a contract.
using FlowId = StrongId<struct FlowIdTag>;
// Index of a step (one collective operation) within an attempt's plan, from 0.
using Sequence = StrongId<struct SequenceTag>;
// Matches a reply to its call, unique per calling node's incarnation.
using CallId = StrongId<struct CallIdTag>;

// One reign of a coordinator. Ordered by counter; a member promises one nonce per counter.
struct Term {
  uint64_t counter = 0;
  uint64_t nonce = 0;
  friend constexpr auto operator<=>(const Term&, const Term&) = default;
};

// Names one set of weights for ever: minted by the coordinator, ordered, never reused.
// The zero version means "never synced".
struct Version {
  Term term;
  EpochId epoch;
  friend constexpr auto operator<=>(const Version&, const Version&) = default;
  constexpr bool IsZero() const { return *this == Version{}; }
};

// "3.17" (term counter and epoch), for people. Not a key: the nonce is left out.
std::string ToString(const Version& version);

// Where a rank lives: its name is stable over restarts, its incarnation is not.
struct MemberId {
  std::string name;
  Incarnation incarnation;
  friend auto operator<=>(const MemberId&, const MemberId&) = default;
};

std::string ToString(const MemberId& member);

}  // namespace packcast

template <class Tag>
struct std::hash<packcast::StrongId<Tag>> {
  size_t operator()(const packcast::StrongId<Tag>& id) const {
    return std::hash<uint64_t>()(id.value);
  }
};
