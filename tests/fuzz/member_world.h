#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <type_traits>
#include <utility>
#include <vector>

#include "actors/member_machine.h"
#include "actors/trainer_machine.h"
#include "tests/fuzz/fill.h"
#include "tests/fuzz/input.h"

namespace packcast::fuzz {

// A member's machine in the hands of an input: a coordinator that says what it should, or anything,
// and local work that ends well or badly, in any order. After each event the invariants hold, what
// the machine sends can travel, and what it asks for can be done. Abstract: the machine is a
// worker's or a trainer's.
class MemberWorld {
 public:
  virtual ~MemberWorld() = default;

  // Takes events until the input ends or the machine stops.
  void Run();
  // The coordinator goes and local work ends: then the machine rests.
  void CheckRests();

 protected:
  // Local work that the machine has asked for; each is answered once.
  using Work = std::variant<PrepareAttempt, JoinGenerations, QuiesceEngine, StartStream,
                            InstallVersion, HaltSource, AbortLocal>;

  explicit MemberWorld(Input* in);
  static MemberConfig ConfigOf(Input* in, Role role);

  virtual const MemberMachine& member() const = 0;
  virtual MemberEffects Feed(const MemberEvent& event) = 0;
  virtual Status CheckMachine() const = 0;
  // An event of the machine's own kind; an input asks for it often.
  virtual void StepOwn() {}
  virtual void TakeFinished(const SyncFinished&) {}

  void On(const MemberEvent& event) { TakeAll(Feed(event)); }
  void TakeAll(const MemberEffects& effects);
  std::shared_ptr<const Manifest> PickManifest();

  Input& in_;
  Pools pools_;
  Filler filler_;
  bool stopped_ = false;

 private:
  void Step();
  void Tell(CoordinatorMessage message);
  void TellRight();
  void TellPropose();
  void TellPrepare();
  void TellRendezvous();
  void TellAny();
  void EndWork();
  void End(const Work& work, const Status& status);
  void EndOfAnother();
  void Take(const MemberEffect& effect);
  void Trace(const MemberEffects& effects) const;
  void CheckPrepare(const PrepareAttempt& prepare) const;
  Contract MakeContract();
  void SetKey(const EpochKey& key);

  const std::vector<std::shared_ptr<const Manifest>>& manifests_;
  EpochKey key_;  // that the coordinator is at
  std::shared_ptr<const Manifest> manifest_;
  Contract contract_;
  Digest contract_digest_;
  std::vector<FlowGeneration> generations_;
  uint64_t last_generation_ = 0;
  std::vector<Work> work_;
  std::set<EpochKey> prepared_;  // here
  std::set<EpochKey> streamed_;
  Version served_;
};

}  // namespace packcast::fuzz
