#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "actors/epoch.h"
#include "actors/member_machine.h"
#include "tests/sim/fault.h"

namespace packcast::sim {

// States are MemberPhase's of members; the coordinator's are "no epoch", then EpochPhase's.
inline constexpr size_t kStates = static_cast<size_t>(MemberPhase::kAborting) + 1;
inline constexpr size_t kCoordinatorStates = static_cast<size_t>(EpochPhase::kAborting) + 2;
constexpr size_t StateOf(MemberPhase phase) { return static_cast<size_t>(phase); }
inline size_t StateOf(const std::optional<Epoch>& epoch) {
  return epoch ? 1 + static_cast<size_t>(epoch->phase) : 0;
}

// How often each fault met each role in each of its states: what the simulation reaches.
class Coverage {
 public:
  void Met(Fault fault, Who who, size_t state) { ++CountOf(fault, who, state); }
  void Add(const Coverage& other);
  // "freeze of a worker in state "streaming"" and so on: those that never met, and that no rule
  // excludes.
  std::vector<std::string> Missing() const;
  // A row for each role and state, a column for each fault; and why cells are empty by rule.
  std::string Table() const;

 private:
  uint64_t& CountOf(Fault fault, Who who, size_t state) {
    return counts_[static_cast<size_t>(who)][state][static_cast<size_t>(fault)];
  }
  uint64_t CountOf(Fault fault, Who who, size_t state) const {
    return counts_[static_cast<size_t>(who)][state][static_cast<size_t>(fault)];
  }

  std::array<std::array<std::array<uint64_t, kFaults>, kStates>, kWhos> counts_{};
};

}  // namespace packcast::sim
