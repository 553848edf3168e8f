#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "actors/coordinator_machine.h"
#include "tests/fuzz/fill.h"
#include "tests/fuzz/input.h"

namespace packcast::fuzz {

// A coordinator's machine in the hands of an input: members that join, answer as they should, lie,
// go and come back; scripts that call. After each event the machine's invariants hold, what it
// sends can travel, and no call is answered twice.
class CoordinatorWorld {
 public:
  explicit CoordinatorWorld(Input* in);

  // Takes events until the input ends or the machine stops.
  void Run();
  // Nobody says anything more: every epoch ends and every call is answered, by deadlines alone.
  void CheckEnds();

 private:
  void Step();
  void On(const CoordinatorEvent& event);
  void Note(const CoordinatorEvent& event);
  void Take(const CoordinatorEffect& effect);
  void TakeSent(const SendToMember& send);
  void Trace(const CoordinatorEvent& event) const;
  void UpdatePools();

  const MemberId& PickMember();
  JoinCluster Join(const MemberId& member);
  void SendRows(const MemberId& from, const Manifest& manifest);
  void Sync(const MemberId& from);
  void Answer(const MemberId& from);
  void AnswerAll();
  MemberMessage RightAnswer(const Participant& participant);
  std::vector<FlowRendezvous> RendezvousOf(const MemberId& member) const;
  MemberMessage AnyMessage();
  void Call();

  Input& in_;
  Pools pools_;
  Filler filler_;
  uint32_t unit_size_ = 1;  // of workers
  CoordinatorMachine machine_;
  std::vector<MemberId> members_;
  const std::vector<std::shared_ptr<const Manifest>>& manifests_;
  Time now_{};
  uint64_t calls_ = 0;
  std::set<uint64_t> open_calls_;
  std::map<MemberId, std::map<uint64_t, int>> open_syncs_;  // by label
  EpochKey committed_;                                      // the last one
  std::optional<MemberId> rows_wanted_;                     // of whom
  bool stopped_ = false;
};

}  // namespace packcast::fuzz
