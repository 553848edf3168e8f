#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "actors/epoch.h"
#include "actors/member_machine.h"
#include "tests/sim/fault.h"

namespace packcast::sim {

// States are MemberPhase's of members; the coordinator's are "no epoch", then EpochPhase's of a
// sync, then those of a catch-up.
inline constexpr size_t kMemberStates = static_cast<size_t>(MemberPhase::kAborting) + 1;
inline constexpr size_t kEpochPhases = static_cast<size_t>(EpochPhase::kAborting) + 1;
inline constexpr size_t kCoordinatorStates = 1 + 2 * kEpochPhases;
inline constexpr size_t kStates = std::max(kMemberStates, kCoordinatorStates);
constexpr size_t StateOf(MemberPhase phase) { return static_cast<size_t>(phase); }
inline size_t StateOf(const std::optional<Epoch>& epoch) {
  if (!epoch) return 0;
  return 1 + (epoch->catch_up ? kEpochPhases : 0) + static_cast<size_t>(epoch->phase);
}
constexpr size_t StateOf(EpochPhase phase) { return 1 + static_cast<size_t>(phase); }
constexpr size_t StateOfCatchUp(EpochPhase phase) {
  return 1 + kEpochPhases + static_cast<size_t>(phase);
}
// Of a coordinator: a catch-up runs.
constexpr bool CatchesUp(size_t state) { return state > kEpochPhases; }

// How often each fault met each role in each of its states: what the simulation reaches.
class Coverage {
 public:
  void Met(Fault fault, Who who, size_t state) { ++CountOf(fault, who, state); }
  void Add(const Coverage& other);
  // "freeze of a worker in state "streaming"" and so on: those that never met, and that no rule
  // excludes.
  std::vector<std::string> Missing() const;
  // A row for each role and state, a column for each fault, in blocks; and why cells are empty.
  std::string Table() const;

 private:
  void AddBlock(size_t first, size_t last, std::ostringstream* out) const;
  uint64_t& CountOf(Fault fault, Who who, size_t state) {
    return counts_[static_cast<size_t>(who)][state][static_cast<size_t>(fault)];
  }
  uint64_t CountOf(Fault fault, Who who, size_t state) const {
    return counts_[static_cast<size_t>(who)][state][static_cast<size_t>(fault)];
  }

  std::array<std::array<std::array<uint64_t, kFaults>, kStates>, kWhos> counts_{};
};

}  // namespace packcast::sim
