#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "protocol/ids.h"
#include "protocol/manifest_cache.h"
#include "protocol/messages.h"
#include "protocol/time.h"

// The epoch side of a member, trainer rank or worker rank, as a pure machine: it follows the
// coordinator through one attempt at a time, says what to do locally (effects) and is told how
// that went (events). docs/protocol.md has its state diagram.
namespace packcast {

// ---- events ---------------------------------------------------------------------------------

// A session with the coordinator exists (again); what came before on older ones is void.
struct CoordinatorUp {};
struct CoordinatorLost {
  std::string cause;
};
// Results of local work. Each names the attempt it was for; those of another attempt are ignored.
struct PrepareDone {
  EpochKey key;
  Status status;
  Digest plan_digest;  // PlansDigest of the contract's flows
  // Of who feeds others, for each such flow without a generation.
  std::vector<FlowRendezvous> rendezvous;
  std::string row;  // on errors: the tensor it is about
  // Of a worker that receives: once installed, what comes could be sent from here.
  bool can_serve = false;
};
struct GenerationsReady {
  EpochKey key;
  Status status;
  std::string culprit;  // on errors: the member that this rank waited for, or ""
};
struct QuiesceDone {
  EpochKey key;
  Status status;
};
struct StreamDone {
  EpochKey key;
  Status status;
  Digest content_digest;
  uint64_t bytes = 0;
  std::vector<Phase> phases;
  std::string culprit;  // on errors: the member that this rank blames, or ""
};
struct InstallDone {
  EpochKey key;
  Status status;
  std::optional<Digest> memory_digest;
  double pause_seconds = 0;
};
struct HaltDone {
  EpochKey key;
  std::optional<uint64_t> entered_group;  // the last one, or that which it is just entering
};
struct AbortDone {
  EpochKey key;
  AbortOutcome outcome = AbortOutcome::kClean;
};

// What this rank can offer has changed: memory was taken or given back, a transport connected or
// turned out not to work.
struct OfferChanged {
  std::vector<TransportOffer> transports;
  uint64_t memory_free = 0;
  uint64_t memory_held = 0;
};

using MemberEvent =
    std::variant<CoordinatorUp, CoordinatorLost, CoordinatorMessage, PrepareDone, GenerationsReady,
                 QuiesceDone, StreamDone, InstallDone, HaltDone, AbortDone, OfferChanged>;

// ---- effects --------------------------------------------------------------------------------

struct SendToCoordinator {
  MemberMessage message;
};
// Bind the manifest, allocate, compute the plans; a root also makes a rendezvous for each of its
// flows without a generation to reuse. Answer: PrepareDone.
struct PrepareAttempt {
  EpochKey key;
  uint64_t label = 0;
  std::shared_ptr<const Manifest> manifest;
  std::shared_ptr<const Contract> contract;
  std::vector<FlowGeneration> generations;  // in the order of the contract's flows
  Version version;                          // what is installed in the end
  bool sends = false;                       // a trainer, or a worker that others catch up with
};
// Join the generations of the prepared attempt that are named. Answer: GenerationsReady, once all
// members of their flows are there.
struct JoinGenerations {
  EpochKey key;
  std::vector<FlowRendezvous> rendezvous;
};
struct QuiesceEngine {  // Answer: QuiesceDone
  EpochKey key;
};
struct StartStream {  // Answer: StreamDone
  EpochKey key;
  bool early = false;  // before all are prepared: it may be some time until they have begun
};
struct InstallVersion {  // Answer: InstallDone
  EpochKey key;
};
struct ResumeEngine {
  EpochKey key;
  bool committed = false;
};
// Trainers: enter no more groups, keep the cursor. Answer: HaltDone, at once: a rank that is inside
// its source may wait there for the others.
struct HaltSource {
  EpochKey key;
};
// Another member of the attempt may keep it waiting for so long from now on, and is not to blame;
// zero: no longer.
struct WaitForPeer {
  EpochKey key;
  std::string member;
  Duration time{};
  std::string why;
};
// Give the attempt up: finish or cancel all local work of it, drain the source to `drain_group`
// (trainers; kAllGroups: to its end), discard what it may have written, retire the generation.
// Answer: AbortDone.
struct AbortLocal {
  EpochKey key;
  std::optional<uint64_t> drain_group;
};
// The bytes of the source may change again: the epoch was decided.
struct SourceFree {
  uint64_t label = 0;
};
struct CloseGeneration {
  GenerationId generation;
};
// Somebody asked for a sync with this label.
struct SyncRequested {
  uint64_t label = 0;
};
struct SyncFinished {
  uint64_t label = 0;
  Status status;
  Value report;
};
// The process should end; no event counts any more but the end of an install that runs.
struct StopMember {
  Status status;  // kCancelled: asked to, all is well; anything else: what is wrong here
};

using MemberEffect =
    std::variant<SendToCoordinator, PrepareAttempt, JoinGenerations, QuiesceEngine, StartStream,
                 InstallVersion, ResumeEngine, HaltSource, AbortLocal, SourceFree, CloseGeneration,
                 SyncRequested, SyncFinished, StopMember, WaitForPeer>;
using MemberEffects = std::vector<MemberEffect>;

// ---- machine --------------------------------------------------------------------------------

enum class MemberPhase : uint8_t {
  kIdle,
  kProposed,    // offered, waits for the contract
  kPreparing,   // local work
  kPrepared,    // waits for rendezvous, quiesce or start
  kJoining,     // local work
  kQuiescing,   // local work
  kStreaming,   // local work
  kStreamed,    // who sends: sent all; waits for the decision
  kStaged,      // who receives: holds all; waits for the decision
  kInstalling,  // decided; local work
  kBroken,      // reported a failure; waits for the abort
  kHalting,     // a trainer stops pulling
  kHalted,      // waits for drain
  kAborting,    // local work
};
std::string_view MemberPhaseName(MemberPhase phase);

struct MemberConfig {
  std::string model = "default";
  MemberId self;
  Role role = Role::kWorker;
  std::string unit;
  uint32_t rank_in_unit = 0;
  uint32_t unit_size = 1;
  Offer offer;
};

// Copyable, no I/O, not thread-safe. Every call returns the effects to carry out in order.
class MemberMachine {
 public:
  explicit MemberMachine(MemberConfig config) : config_(std::move(config)) {}

  // Before the first event.
  void SetSelf(const MemberId& self) { config_.self = self; }

  MemberEffects On(const MemberEvent& event, Time now);
  // OK, or which invariant is broken (a bug).
  Status CheckInvariants() const;

  MemberPhase phase() const { return phase_; }
  const EpochKey& key() const { return key_; }
  uint64_t label() const { return label_; }  // of the present or last attempt
  const Version& serving() const { return serving_; }
  bool dirty() const { return dirty_; }
  // False from quiesce to commit, and while dirty.
  bool in_service() const { return !dirty_ && !quiesced_; }
  uint64_t install_count() const { return install_count_; }
  bool connected() const { return connected_; }
  bool joined() const { return joined_; }
  const Term& promised() const { return promised_; }
  // Those that live here.
  const std::vector<GenerationId>& generations() const { return generations_; }
  const MemberConfig& config() const { return config_; }
  ManifestCache& manifests() { return manifests_; }

 private:
  void Handle(const CoordinatorUp&);
  void Handle(const CoordinatorLost&);
  void Handle(const CoordinatorMessage&);
  void Handle(const PrepareDone&);
  void Handle(const GenerationsReady&);
  void Handle(const QuiesceDone&);
  void Handle(const StreamDone&);
  void Handle(const InstallDone&);
  void Handle(const HaltDone&);
  void Handle(const AbortDone&);
  void Handle(const OfferChanged&);

  void Handle(const Welcome&);
  void Handle(const Expelled&);
  void Handle(const SyncWanted&);
  void Handle(const ManifestPart&);
  void Handle(const Propose&);
  void Handle(const Prepare&);
  void Handle(const RendezvousBlob&);
  void Handle(const Quiesce&);
  void Handle(const Start&);
  void Handle(const Commit&);
  void Handle(const AbortAttempt&);
  void Handle(const Drain&);
  void Handle(const SyncDone&);
  void Handle(const Shutdown&);
  void Handle(const ManifestWanted&);
  void Handle(const PeerBusy&);

  void Emit(MemberEffect effect) { effects_.push_back(std::move(effect)); }
  void Send(MemberMessage message) { Emit(SendToCoordinator{std::move(message)}); }
  void SendJoin();
  void Answer(const Propose& propose);
  bool MayGoAhead(const Propose& propose) const;
  bool StreamsEarly() const;
  void SendStaged(const StreamDone& done);
  void Fail(std::string_view phase, const Status& status, const std::string& culprit = "");
  void Refuse(const Status& status, const std::string& row = "");
  // member_catch_up.cc
  Status CheckProposed(const Propose& propose) const;
  Status CheckCatchUp() const;
  bool IsRoot() const;
  Version target() const { return base_.value_or(key_.version()); }
  void TakeInService();
  // Starts giving the current attempt up; `report` says Aborted to the coordinator at the end.
  void BeginAbort(bool report);
  void FinishAbort(const AbortDone& done);
  std::optional<uint64_t> GroupWithoutWord() const;
  Status CheckPrepare(const Prepare& prepare, const Manifest* manifest) const;
  bool Lives(GenerationId generation) const;
  // Closes all generations but those of `kept` that may be reused.
  void Retire(const std::vector<GenerationId>& kept);
  void Abandon();
  void Resume(bool committed);
  void Stop(const Status& why);
  bool Current(const EpochKey& key) const { return phase_ != MemberPhase::kIdle && key == key_; }
  bool FromPast(const EpochKey& key) const;
  bool InFlow() const;  // in any of the contract's

  MemberConfig config_;
  Offer told_;  // the last offer that the coordinator got; without manifests
  ManifestCache manifests_;
  bool connected_ = false;
  bool stopped_ = false;  // StopMember was the last effect
  bool joined_ = false;
  Term promised_;

  MemberPhase phase_ = MemberPhase::kIdle;
  EpochKey key_;
  uint64_t label_ = 0;
  std::optional<Version> base_;  // a catch-up: what it brings, and others serve already
  bool sends_ = false;           // in this attempt: a trainer, or who others catch up with
  std::shared_ptr<const Contract> contract_;
  Digest contract_digest_;
  std::shared_ptr<const Manifest> manifest_;
  Digest content_digest_;                  // of what was staged
  std::vector<FlowGeneration> planned_;    // of the attempt, in the order of the contract's flows
  std::vector<GenerationId> generations_;  // live ones
  Term generations_term_;                  // whose they are
  bool ahead_ = false;                     // prepared with the proposal
  bool may_retry_ = false;                 // the newest version was proposed in this session
  bool started_ = false;                   // streams, or did
  bool committed_ = false;                 // who sends: decided before its own StreamDone
  bool quiesced_ = false;                  // asked to be: out of service
  bool engine_quiet_ = false;              // and is: its memory may be written
  bool report_abort_ = false;
  bool join_after_abort_ = false;
  std::optional<Propose> next_;  // arrived while an abort was under way

  Version serving_;
  std::optional<ServedWeights> weights_;  // of `serving_`, while they are good
  std::shared_ptr<const Manifest> served_manifest_;
  Version newest_;  // newest version ever proposed to this member
  bool dirty_ = false;
  uint64_t install_count_ = 0;

  MemberEffects effects_;
};

}  // namespace packcast
