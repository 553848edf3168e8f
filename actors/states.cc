#include "actors/states.h"

#include "actors/coordinator_machine.h"
#include "actors/member_machine.h"

namespace packcast {

std::string_view StateName(const CoordinatorMachine& machine) {
  return machine.epoch() ? EpochPhaseName(machine.epoch()->phase) : "idle";
}

std::string_view StateName(const MemberMachine& machine) {
  if (machine.phase() == MemberPhase::kIdle && !machine.joined()) return "out";
  return MemberPhaseName(machine.phase());
}

}  // namespace packcast
