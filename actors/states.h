#pragma once

#include <string_view>

// What state a machine is in, in a word: for failpoints, logs and tests.
namespace packcast {

class CoordinatorMachine;
class MemberMachine;

// "idle", or the phase of its epoch (EpochPhaseName).
std::string_view StateName(const CoordinatorMachine& machine);
// "out" while it is in no cluster and does nothing, else its phase (MemberPhaseName).
std::string_view StateName(const MemberMachine& machine);

}  // namespace packcast
