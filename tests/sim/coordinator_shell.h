#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "actors/coordinator_machine.h"
#include "tests/sim/member_shell.h"

namespace packcast::sim {

// A process with the coordinator's machine. Checks what only it can break: S5, S10, S7, S8 of
// control calls, B1, and how it shuts down.
class CoordinatorShell {
 public:
  CoordinatorShell(Surroundings* around, Process* process, CoordinatorConfig config);

  Process* process() const { return process_; }
  const CoordinatorMachine& machine() const { return machine_; }
  // Control calls that have no answer yet, and how the latest epoch ended.
  // Who was a member when the latest epoch or catch-up began.
  bool HadThen(const MemberId& member) const { return members_then_.contains(member); }
  size_t open_controls() const { return controls_.size(); }
  const std::optional<Value>& last_report() const { return last_report_; }

  void Feed(const CoordinatorEvent& event);
  void Control(const std::string& method, Value body);

 private:
  void Receive(const CoordinatorEvent& event);
  // Carries out `effects` from the `first` on, as far as `tear` lets it.
  void Carry(CoordinatorEffects* effects, size_t first, std::optional<Tear> tear);
  std::optional<Tear> TearOf(const CoordinatorEffects& effects);
  void Do(const SendToMember& effect);
  void Do(const ReplyControl& effect);
  void Do(const PublishEvent& effect);
  void Do(const WakeAt& effect);
  void Do(const StopCoordinator& effect);
  // The next tick comes when the machine says, by the own clock.
  void Arm();
  void TraceEvent(const CoordinatorEvent& event);
  void CheckBlame(const Value& told, std::string_view reason_field);
  void CheckStopping(std::string_view what);
  void CheckDecision(const SendToMember& effect);
  // Of what commits and is given up alone, the part that the member is of.
  std::string DomainOf(const MemberId& member) const;
  void NoteBegin();
  void NoteSuperseded(const FromMember& event);
  void NoteWalkers(const EpochKey& key);
  void NoteDrain(const Drain& drain);
  void CountEarly(const CoordinatorEvent& event);
  // coordinator_mutations.cc
  bool Mutated(const CoordinatorEvent& event);
  void Mutate(const CoordinatorEvent& event);
  void PretendStagedAgain(bool early);
  void PretendLastStaged(const EpochKey& key, const Staged& staged);
  void TakeBack(const MemberLost& lost);
  bool Forgets(CoordinatorMessage* message);

  Surroundings* const around_;
  World* const world_;
  Process* const process_;
  CoordinatorMachine machine_;
  std::map<uint64_t, std::string> controls_;  // open: token and method
  uint64_t last_token_ = 0;
  std::optional<Value> last_report_;
  Time epoch_began_{};
  std::set<MemberId> members_then_;
  std::optional<Time> armed_;  // by the own clock
  std::optional<Time> stopping_since_;
  bool stopped_ = false;
  EpochKey told_ahead_;  // the last attempt that members were told with its proposal
  // For mutations.
  std::map<MemberId, Staged> earlier_staged_;
  Bytes first_blob_;
  EpochKey pretended_;
};

}  // namespace packcast::sim
