#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "actors/trainer_machine.h"
#include "tests/sim/data_plane.h"
#include "tests/sim/network.h"
#include "tests/sim/scenario.h"
#include "tests/sim/truth.h"
#include "tests/sim/world.h"

namespace packcast::sim {

class MemberShell;

// Who owns the processes and plays the user.
class MemberOwner {
 public:
  virtual ~MemberOwner() = default;
  virtual void OnSyncFinished(MemberShell* shell, uint64_t label, const Status& status) = 0;
  virtual void OnSyncRequested(MemberShell* shell, uint64_t label) = 0;
  virtual void OnStop(MemberShell* shell, const std::string& reason) = 0;
  // The root of a flow streams, and not all members may be prepared.
  virtual void OnEarlyRoot() = 0;
  // A member has entered a state that it soon leaves: it has failed, or stops pulling.
  virtual void OnBriefState(MemberShell* shell) = 0;
  // A coordinator was asked to end, and does.
  virtual void OnCoordinatorStop(Process* coordinator) = 0;
  // A coordinator published that a catch-up begins.
  virtual void OnCatchUp() = 0;
  // A coordinator published the end of an epoch that was committed.
  virtual void OnCommitted(const Value& report) = 0;
};

// What the shells of a cluster share.
struct Surroundings {
  World* world = nullptr;
  Network* network = nullptr;
  DataPlane* data_plane = nullptr;
  Truth* truth = nullptr;
  const Scenario* scenario = nullptr;
  MemberOwner* owner = nullptr;
  bool unrest = true;  // injected local trouble is possible
};

// One process with a trainer's or worker's machine: does what the machine asks in simulated memory
// and time, and checks after every step what must hold of this rank.
class MemberShell : public StreamUser {
 public:
  MemberShell(Surroundings* around, Process* process, MemberConfig config);

  Process* process() const { return process_; }
  const MemberMachine& member() const;
  const TrainerMachine* trainer() const { return std::get_if<TrainerMachine>(&machine_); }
  Who who() const { return trainer() != nullptr ? Who::kTrainer : Who::kWorker; }
  bool engine_runs() const { return engine_runs_; }
  const EpochKey& prepared() const { return prepared_; }  // the last attempt that it was
  // Trainers: whether `label`'s bytes are promised constant now.
  bool Holds(uint64_t label) const { return sources_.contains(label); }

  void Feed(const MemberEvent& event);
  void Sync(uint64_t label, size_t model, bool supersede);
  void Cancel(uint64_t label);

  // StreamUser.
  uint64_t ReadWord(const EpochKey& key, FlowId flow, uint32_t cell) override;
  void WriteWord(const EpochKey& key, FlowId flow, uint32_t cell, uint64_t word) override;
  void Joined(const EpochKey& key, FlowId flow, const Status& status) override;
  void Streamed(const EpochKey& key, FlowId flow, const Status& status,
                const std::string& culprit) override;

 private:
  enum class Job : uint8_t { kNone, kPrepare, kJoin, kQuiesce, kStream, kInstall, kHalt, kAbort };
  // A flow of the prepared attempt that this rank is in, and how far its stream is.
  struct Lane {
    FlowId flow;
    GenerationId generation;
    bool streaming = false;
    bool ended_well = false;
    Digest digest;  // of what was sent, or is held
  };

  void Step(const TrainerEvent& event);
  void Do(const SendToCoordinator& effect);
  void Do(const PrepareAttempt& effect);
  void Do(const JoinGenerations& effect);
  void Do(const QuiesceEngine& effect);
  void Do(const StartStream& effect);
  void Do(const InstallVersion& effect);
  void Do(const ResumeEngine& effect);
  void Do(const HaltSource& effect);
  void Do(const AbortLocal& effect);
  void Do(const SourceFree& effect);
  void Do(const CloseGeneration& effect);
  void Do(const SyncRequested& effect);
  void Do(const SyncFinished& effect);
  void Do(const StopMember& effect);
  void Do(const WaitForPeer&) {}  // its streams have no deadlines here

  // As the engine says it: before what has changed it ends.
  void OfferAnew();
  void ChangeUnasked();
  void LoseTransport(const std::string& kind);
  // Local work: one piece at a time. End() is false for a piece that was given up meanwhile (its
  // result still reaches the machine, which must ignore it).
  void BeginJob(Job job, const EpochKey& key);
  bool End(Job job, const EpochKey& key);
  bool Trouble(double chance, Fault fault);
  // Of the prepared attempt.
  void ChooseLanes(const PrepareAttempt& effect);
  void NoteContents(const EpochKey& key);
  std::shared_ptr<const Contract> AsAgreed(const PrepareAttempt& effect) const;
  void CountFlows(const PrepareAttempt& effect);
  std::vector<FlowRendezvous> MakeRendezvous(const PrepareAttempt& effect);
  bool KeepsGeneration(Lane* lane);
  const Flow& FlowOf(const Lane& lane) const { return contract_->flows[lane.flow.value]; }
  const CellPlan& PlanOfLane(const Lane& lane) const;
  Lane* FindLane(FlowId flow);
  bool IsRoot(const Flow& flow) const { return flow.root_member() == member().config().self; }
  bool is_sender() const;  // root of any flow
  // member_streams.cc
  void PullBesides(const EpochKey& key);
  void EndWell(Lane* lane);
  void FailStream(const Status& status, const std::string& culprit);
  void FinishStream();
  void PretendStaged();
  void CheckWritten();
  const Words& Written() const;
  void FinishAbort(const AbortLocal& effect, AbortOutcome outcome);
  bool IgnoresAbort(const MemberEvent& event);
  // member_checks.cc
  void CheckTransports();
  void CheckGenerations(const PrepareAttempt& effect);
  void CheckStep();
  void CheckService();
  void Scribble(uint64_t label);
  void Violate(const std::string& what);
  bool is_worker() const { return member().config().role == Role::kWorker; }
  // member_catch_up.cc: a worker that others catch up from
  bool sends() const { return !is_worker() || sends_; }
  uint64_t ReadServed(FlowId flow, uint32_t cell);
  bool MistakesCatchUp(const MemberEvent& event);

  Surroundings* const around_;
  World* const world_;
  Process* const process_;
  std::variant<MemberMachine, TrainerMachine> machine_;

  Job job_ = Job::kNone;
  EpochKey job_key_;
  EpochKey aborted_;    // the last attempt of which nothing is left
  EpochKey committed_;  // the last attempt this rank saw decided
  EpochKey prepared_;
  Version version_;     // that it brings
  bool sends_ = false;  // in it
  EpochKey early_;      // the last attempt whose stream began before Start
  std::shared_ptr<const Contract> contract_;
  std::shared_ptr<const Manifest> manifest_;
  std::vector<Lane> lanes_;
  EpochKey join_told_;     // the last attempt of which GenerationsReady was said
  size_t joins_open_ = 0;  // of the present one
  StreamDone done_;        // of the streams that run, so far
  bool wedged_ = false;
  uint64_t label_ = 0;
  uint64_t offers_ = 0;
  std::vector<TransportOffer> told_transports_;  // as the coordinator last heard
  // Workers.
  Words live_;
  Words staged_;
  std::vector<uint32_t> writes_;  // of each cell, by the streams of the present attempt
  bool engine_runs_ = true;
  Version last_served_;
  // Trainers: what the source holds for each label whose bytes are promised, and how many of its
  // groups, which are rows, were entered.
  struct Source {
    uint64_t token = 0;
    size_t model = 0;
  };
  std::map<uint64_t, Source> sources_;
  size_t pulled_ = 0;
  // For a mutation: the generation that was joined last over a transport and from a root.
  std::map<std::pair<std::string, MemberId>, GenerationId> kept_;
};

}  // namespace packcast::sim
