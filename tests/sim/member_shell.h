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
#include "tests/sim/lazy_source.h"
#include "tests/sim/network.h"
#include "tests/sim/scenario.h"
#include "tests/sim/truth.h"
#include "tests/sim/world.h"

namespace packcast::sim {

class CoordinatorShell;
class MemberShell;

// Where a step ends before its end: its process dies, or freezes and carries out the rest later.
struct Tear {
  size_t after = 0;  // so many effects
  bool freezes = false;
};

// Who owns the processes and plays the user.
class MemberOwner {
 public:
  virtual ~MemberOwner() = default;
  virtual void OnSyncFinished(MemberShell* shell, uint64_t label, const Status& status) = 0;
  virtual void OnSyncRequested(MemberShell* shell, uint64_t label) = 0;
  virtual void OnStop(MemberShell* shell, const std::string& reason) = 0;
  // The root of a flow streams, and not all members may be prepared.
  virtual void OnEarlyRoot() = 0;
  virtual void OnEntered(MemberShell* shell) = 0;  // another state
  virtual void OnEntered(CoordinatorShell* shell) = 0;
  // A coordinator was asked to end, and does.
  virtual void OnCoordinatorStop(Process* coordinator) = 0;
  // A coordinator published that a catch-up begins.
  virtual void OnCatchUp() = 0;
  // Of a rank that the scenario knows.
  virtual const std::string& UnitOf(const std::string& name) const = 0;
  // A coordinator published the end of an epoch that was committed.
  virtual void OnCommitted(const CoordinatorShell& shell, const Value& report) = 0;
  // The same of a catch-up.
  virtual void OnCaughtUp(const CoordinatorShell& shell, const Value& report) = 0;
  // Whether and where a step of so many effects is torn; of a coordinator's, so many from the first
  // one on are commits.
  virtual std::optional<Tear> TearOf(const MemberShell& shell, size_t effects) = 0;
  virtual std::optional<Tear> TearOf(const CoordinatorShell& shell, size_t effects,
                                     size_t first_commit, size_t commits) = 0;
  virtual void OnTorn(Process* process, bool freezes) = 0;
};

// What the shells of a cluster share.
struct Surroundings {
  World* world = nullptr;
  Network* network = nullptr;
  DataPlane* data_plane = nullptr;
  Truth* truth = nullptr;
  const Scenario* scenario = nullptr;
  MemberOwner* owner = nullptr;
  std::map<std::string, Gather> gathers;  // by trainer unit
  bool unrest = true;                     // injected local trouble is possible
  Process* coordinator = nullptr;         // that members dial

  Time CoordinatorsTime() const { return world->LocalNow(coordinator); }
};

// One process with a trainer's or worker's machine: does what the machine asks in simulated memory
// and time, and checks after every step what must hold of this rank.
class MemberShell : public StreamUser {
 public:
  MemberShell(Surroundings* around, Process* process, MemberConfig config);

  Process* process() const { return process_; }
  const MemberMachine& member() const;
  const TrainerMachine* trainer() const { return std::get_if<TrainerMachine>(&machine_); }
  Who who() const;
  bool engine_runs() const { return engine_runs_; }
  const EpochKey& prepared() const { return prepared_; }  // the last attempt that it was
  // Of the coordinator that it has a session with, or had last.
  Incarnation session() const { return session_; }
  void SetSession(Incarnation coordinator) { session_ = coordinator; }
  // Trainers: whether `label`'s bytes are promised constant now.
  bool Holds(uint64_t label) const { return sources_.contains(label); }

  void Feed(const MemberEvent& event);
  void Sync(uint64_t label, size_t model, bool supersede);
  void Cancel(uint64_t label);

  // StreamUser.
  bool Ready(const EpochKey& key, const std::vector<uint32_t>& cells) override;
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

  void Receive(const MemberEvent& event);
  void Step(const TrainerEvent& event);
  MemberEffects StepMachine(const TrainerEvent& event);
  // Carries out `effects` from the `first` on, as far as `tear` lets it.
  void Carry(const MemberEffects& effects, size_t first, std::optional<Tear> tear);
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
  void OpenSource(const EpochKey& key);
  void PullBesides(const EpochKey& key);
  Time StreamEnd(bool early) const;
  void ExpireAt(Time local, const EpochKey& key);
  bool AllEnded() const;
  void EndWell(Lane* lane);
  void FailStream(const Status& status, const std::string& culprit);
  void FinishStream();
  void PretendStaged();
  void CheckWritten();
  const Words& Written() const;
  // member_shell.cc: giving up
  void GiveUp(const AbortLocal& effect, AbortOutcome outcome);
  void FinishAbort(const AbortLocal& effect, AbortOutcome outcome);
  void CloseSource(const EpochKey& key, size_t rows, std::function<void()> done);
  void TellHalted(const EpochKey& key);
  // member_mutations.cc
  MemberEvent Mutated(const MemberEvent& event);
  MemberMessage Mutated(MemberMessage message) const;
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
  EpochKey provides_;   // the last catch-up whose provider this worker is
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
  Incarnation session_;
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
  std::optional<LazySource> lazy_;
  // For a mutation: the generation that was joined last over a transport and from a root.
  std::map<std::pair<std::string, MemberId>, GenerationId> kept_;
};

}  // namespace packcast::sim
