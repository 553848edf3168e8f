#include "actors/member_machine.h"

#include <algorithm>
#include <string>
#include <utility>

#include "protocol/limits.h"

namespace packcast {

std::string_view MemberPhaseName(MemberPhase phase) {
  switch (phase) {
    case MemberPhase::kIdle: return "idle";
    case MemberPhase::kProposed: return "proposed";
    case MemberPhase::kPreparing: return "preparing";
    case MemberPhase::kPrepared: return "prepared";
    case MemberPhase::kJoining: return "joining";
    case MemberPhase::kQuiescing: return "quiescing";
    case MemberPhase::kStreaming: return "streaming";
    case MemberPhase::kStreamed: return "streamed";
    case MemberPhase::kStaged: return "staged";
    case MemberPhase::kInstalling: return "installing";
    case MemberPhase::kBroken: return "broken";
    case MemberPhase::kHalting: return "halting";
    case MemberPhase::kHalted: return "halted";
    case MemberPhase::kAborting: return "aborting";
  }
  return "unknown";
}

MemberEffects MemberMachine::On(const MemberEvent& event, Time) {
  // An install that runs still ends: what this rank says it serves must be what it holds.
  if (stopped_ && !std::holds_alternative<InstallDone>(event)) return {};
  std::visit([this](const auto& e) { Handle(e); }, event);
  // Work that waited for the present attempt to end.
  if (phase_ == MemberPhase::kIdle && connected_ && join_after_abort_) SendJoin();
  if (phase_ == MemberPhase::kIdle && joined_ && next_) {
    const Propose propose = *std::exchange(next_, std::nullopt);
    Handle(propose);  // which looks again whether it still counts
  }
  return std::exchange(effects_, {});
}

Status MemberMachine::CheckInvariants() const {
  if (engine_quiet_ && in_service()) return Internal("S2: quiesced and in service");
  if (dirty_ && config_.role == Role::kTrainer) return Internal("a trainer is dirty");
  if (phase_ != MemberPhase::kIdle && key_.version() < serving_) {
    return Internal("S2: works on a version older than the one it serves");
  }
  if (phase_ == MemberPhase::kStreaming && contract_ == nullptr) {
    return Internal("S3: streams without a contract");
  }
  if (newest_ < serving_) return Internal("S2: serves a version that was never proposed");
  return OkStatus();
}

bool MemberMachine::InFlow() const {
  return std::any_of(contract_->flows.begin(), contract_->flows.end(),
                     [this](const Flow& flow) { return flow.RankOf(config_.self).has_value(); });
}

bool MemberMachine::Lives(GenerationId generation) const {
  return std::find(generations_.begin(), generations_.end(), generation) != generations_.end();
}

bool MemberMachine::FromPast(const EpochKey& key) const {
  return key.model != config_.model || key.term != promised_ || key.version() < key_.version();
}

// ---- session ----------------------------------------------------------------------------------

void MemberMachine::SendJoin() {
  join_after_abort_ = false;
  told_ = config_.offer;
  Offer offer = config_.offer;
  offer.manifests = manifests_.Digests();
  Send(JoinCluster{config_.model, config_.role, config_.unit, config_.rank_in_unit,
                   config_.unit_size, std::move(offer), serving_, dirty_, install_count_, promised_,
                   dirty_ ? std::nullopt : weights_});
}

void MemberMachine::Handle(const CoordinatorUp&) {
  if (connected_) Handle(CoordinatorLost{"a new session began"});
  connected_ = true;
  joined_ = false;
  join_after_abort_ = true;
}

void MemberMachine::Handle(const CoordinatorLost&) {
  connected_ = false;
  joined_ = false;
  join_after_abort_ = false;
  Abandon();
}

void MemberMachine::Handle(const CoordinatorMessage& message) {
  if (!connected_) return;  // S6: of a session that is gone
  std::visit([this](const auto& m) { Handle(m); }, message);
}

void MemberMachine::Handle(const Welcome& welcome) {
  if (welcome.model != config_.model) return;
  if (join_after_abort_) return;  // S6: to a join before the one that is still to be sent
  const bool lower = welcome.term.counter < promised_.counter;
  const bool rival =
      welcome.term.counter == promised_.counter && welcome.term.nonce != promised_.nonce;
  if (lower || rival) return;  // one nonce per counter, no lower ones
  // Joined twice (an Expelled crossed our join): what came before the second welcome is void.
  if (joined_ && welcome.term == promised_) Abandon();
  promised_ = welcome.term;
  joined_ = true;
}

void MemberMachine::Handle(const Expelled& expelled) {
  if (expelled.model != config_.model) return;
  joined_ = may_retry_ = false;
  next_.reset();
  contract_digest_ = {};
  if (!expelled.may_rejoin) {
    Stop(expelled.reason.ToStatus());
    return;
  }
  join_after_abort_ = true;
  if (phase_ == MemberPhase::kAborting) report_abort_ = false;
  if (phase_ != MemberPhase::kIdle && phase_ != MemberPhase::kInstalling &&
      phase_ != MemberPhase::kAborting && phase_ != MemberPhase::kHalting) {
    BeginAbort(false);
  }
}

void MemberMachine::Handle(const SyncWanted& wanted) {
  if (wanted.model == config_.model) Emit(SyncRequested{wanted.label});
}

void MemberMachine::Handle(const ManifestPart& part) {
  // A bad part leaves no manifest, and the prepare that needs it is refused with that reason.
  if (Status status = manifests_.Add(part); !status.ok() && phase_ == MemberPhase::kProposed) {
    Fail("manifest", status);
  }
}

void MemberMachine::Handle(const SyncDone& done) {
  if (done.model == config_.model) {
    Emit(SyncFinished{done.label, done.status.ToStatus(), done.report});
  }
}

void MemberMachine::Handle(const PeerBusy& busy) {
  if (!joined_ || !Current(busy.key)) return;
  const auto longest = static_cast<uint64_t>(ToMilliseconds(limits::kBusyTime));
  const auto ms = static_cast<int64_t>(std::min(busy.ms, longest));
  Emit(WaitForPeer{busy.key, busy.member, Milliseconds(ms), busy.why});
}

void MemberMachine::Handle(const Shutdown& shutdown) { Stop(Cancelled(shutdown.reason)); }

void MemberMachine::Stop(const Status& why) {
  stopped_ = true;
  joined_ = false;
  // A refusal is an error, also when whoever refused named none.
  Emit(StopMember{why.ok() ? Internal("expelled without a reason") : why});
}

// ---- one attempt --------------------------------------------------------------------------------

void MemberMachine::Handle(const Propose& propose) {
  if (!joined_ || FromPast(propose.key) || propose.key.version() <= newest_) return;
  if (phase_ == MemberPhase::kIdle) {
    Answer(propose);
    return;
  }
  next_ = propose;
  const bool ends_by_itself = phase_ == MemberPhase::kInstalling ||
                              phase_ == MemberPhase::kAborting || phase_ == MemberPhase::kHalting ||
                              (phase_ == MemberPhase::kStreaming && committed_);
  if (!ends_by_itself) BeginAbort(false);  // the coordinator has moved on without us
}

void MemberMachine::Answer(const Propose& propose) {
  key_ = propose.key;
  label_ = propose.label;
  newest_ = propose.key.version();
  may_retry_ = true;
  started_ = committed_ = ahead_ = false;
  sends_ = config_.role == Role::kTrainer;
  base_.reset();
  if (const Status status = CheckProposed(propose); !status.ok()) {
    Refuse(status);
    return;
  }
  if (propose.kind == SyncKind::kCatchUp) base_ = propose.base;
  phase_ = MemberPhase::kProposed;
  if (MayGoAhead(propose)) {
    std::vector<FlowGeneration> reused;
    for (const GenerationId generation : *propose.generations) reused.push_back({generation, true});
    Handle(Prepare{key_, label_, propose.manifest_digest, contract_digest_, std::nullopt,
                   std::move(reused)});
    ahead_ = true;
    return;
  }
  told_ = config_.offer;
  Offer offer = config_.offer;
  offer.manifests = manifests_.Digests();
  Send(OfferReply{key_, std::move(offer)});
}

// Whether all that the proposal takes for granted is so here.
bool MemberMachine::MayGoAhead(const Propose& propose) const {
  if (!propose.contract_digest || !propose.generations || contract_ == nullptr) return false;
  if (contract_digest_ != *propose.contract_digest || config_.offer != told_) return false;
  const std::vector<Flow>& flows = contract_->flows;
  if (propose.generations->size() != flows.size()) return false;
  for (size_t k = 0; k < flows.size(); ++k) {
    if (flows[k].RankOf(config_.self) && !Lives((*propose.generations)[k])) return false;
  }
  return manifests_.Find(propose.manifest_digest) != nullptr;
}

void MemberMachine::Handle(const Prepare& prepare) {
  const bool first = phase_ == MemberPhase::kProposed && prepare.key == key_;
  const bool retry = phase_ == MemberPhase::kIdle && may_retry_ && !FromPast(prepare.key) &&
                     prepare.key.version() == newest_ && key_ < prepare.key;
  if (!first && !retry) return;
  key_ = prepare.key;
  started_ = committed_ = ahead_ = false;
  phase_ = MemberPhase::kPreparing;
  manifest_ = manifests_.Find(prepare.manifest_digest);
  if (prepare.contract) {
    contract_ = std::make_shared<const Contract>(*prepare.contract);
    // As it came: hashing our own encoding would fail on fields that a newer coordinator added.
    contract_digest_ = prepare.contract_digest;
  }
  if (const Status status = CheckPrepare(prepare, manifest_.get()); !status.ok()) {
    Fail("prepare", status);
    contract_digest_ = {};
    return;
  }
  sends_ = config_.role == Role::kTrainer || (base_ && IsRoot());
  if (const Status status = CheckCatchUp(); !status.ok()) {
    Refuse(status);
    return;
  }
  // Each coordinator counts its own.
  if (std::exchange(generations_term_, key_.term) != key_.term) Retire({});
  std::vector<GenerationId> kept;
  for (size_t k = 0; k < contract_->flows.size(); ++k) {
    const FlowGeneration& planned = prepare.generations[k];
    if (!planned.reuse || !contract_->flows[k].RankOf(config_.self)) continue;
    if (!Lives(planned.id)) {
      Fail("prepare", FailedPrecondition("the generation to reuse does not live here any more"));
      return;
    }
    kept.push_back(planned.id);
  }
  Retire(kept);
  planned_ = prepare.generations;
  Emit(PrepareAttempt{key_, prepare.label, manifest_, contract_, planned_, target(), sends_});
}

Status MemberMachine::CheckPrepare(const Prepare& prepare, const Manifest* manifest) const {
  if (manifest == nullptr) return FailedPrecondition("the manifest never came here");
  if (contract_ == nullptr || contract_digest_ != prepare.contract_digest) {
    return FailedPrecondition("the contract is not the agreed one");
  }
  if (prepare.generations.size() != contract_->flows.size()) {
    return FailedPrecondition("the contract has " + std::to_string(contract_->flows.size()) +
                              " flows, and there are generations for " +
                              std::to_string(prepare.generations.size()));
  }
  return CheckFlows(*contract_);
}

void MemberMachine::Retire(const std::vector<GenerationId>& kept) {
  std::erase_if(generations_, [&](GenerationId live) {
    const bool stays = std::find(kept.begin(), kept.end(), live) != kept.end();
    if (!stays) Emit(CloseGeneration{live});
    return !stays;
  });
}

void MemberMachine::Handle(const OfferChanged& changed) {
  config_.offer.transports = changed.transports;
  config_.offer.memory_free = changed.memory_free;
  config_.offer.memory_held = changed.memory_held;
}

void MemberMachine::Handle(const PrepareDone& done) {
  if (phase_ != MemberPhase::kPreparing || done.key != key_) return;
  if (!done.status.ok()) {
    Refuse(done.status, done.row);
    return;
  }
  phase_ = MemberPhase::kPrepared;
  if (!sends_) config_.offer.can_serve = done.can_serve;  // told with Staged, if it is news
  Prepared prepared{key_, done.plan_digest, std::nullopt};
  if (!done.rendezvous.empty()) prepared.rendezvous = done.rendezvous;
  Send(std::move(prepared));
  if (!StreamsEarly()) return;
  phase_ = MemberPhase::kStreaming;
  started_ = true;
  Emit(StartStream{key_, true});
}

// Whether it need not wait for Start. The ledger of grants is what keeps a root from launching
// before all members are prepared: each grant names the plan. What is in service must be quiesced
// first, and trainer ranks whose sources gather together begin together.
bool MemberMachine::StreamsEarly() const {
  return ahead_ && InFlow() && contract_->install == InstallMode::kStaged &&
         (config_.role == Role::kWorker || config_.unit_size == 1);
}

void MemberMachine::Handle(const RendezvousBlob& rendezvous) {
  if (phase_ != MemberPhase::kPrepared || rendezvous.key != key_) return;
  for (const FlowRendezvous& flow : rendezvous.flows) {
    const bool known = flow.flow.value < planned_.size() && !planned_[flow.flow.value].reuse &&
                       !Lives(planned_[flow.flow.value].id);
    if (!known) {
      return Fail("rendezvous", FailedPrecondition("a rendezvous of a flow that needs none"));
    }
    generations_.push_back(planned_[flow.flow.value].id);
  }
  phase_ = MemberPhase::kJoining;
  Emit(JoinGenerations{key_, rendezvous.flows});
}

void MemberMachine::Handle(const GenerationsReady& ready) {
  if (phase_ != MemberPhase::kJoining || ready.key != key_) return;
  if (!ready.status.ok()) return Fail("rendezvous", ready.status, ready.culprit);
  phase_ = MemberPhase::kPrepared;
  Send(GenerationJoined{key_});
}

void MemberMachine::Handle(const Quiesce& quiesce) {
  if (phase_ != MemberPhase::kPrepared || quiesce.key != key_) return;
  if (engine_quiet_) {  // out of service since an aborted epoch
    Send(Quiesced{key_});
    return;
  }
  phase_ = MemberPhase::kQuiescing;
  quiesced_ = true;
  Emit(QuiesceEngine{key_});
}

void MemberMachine::Handle(const QuiesceDone& done) {
  if (phase_ != MemberPhase::kQuiescing || done.key != key_) return;
  if (!done.status.ok()) return Fail("quiesce", done.status);
  engine_quiet_ = true;
  phase_ = MemberPhase::kPrepared;
  Send(Quiesced{key_});
}

void MemberMachine::Handle(const Start& start) {
  if (phase_ != MemberPhase::kPrepared || start.key != key_) return;
  if (!sends_ && contract_->install == InstallMode::kInPlace) {
    if (!engine_quiet_) return Fail("start", Internal("asked to write live memory before quiesce"));
    dirty_ = true;
  }
  phase_ = MemberPhase::kStreaming;
  started_ = true;
  Emit(StartStream{key_});
}

void MemberMachine::Handle(const StreamDone& done) {
  if (phase_ != MemberPhase::kStreaming || done.key != key_) return;
  if (!done.status.ok()) Fail("transfer", done.status, done.culprit);
  if (committed_) {  // all who receive held all bytes before this rank noticed
    phase_ = MemberPhase::kIdle;
    Emit(SourceFree{label_});
    if (!done.status.ok()) {
      Retire({});
    } else {
      SendStaged(done);
    }
    return;
  }
  if (!done.status.ok()) return;
  content_digest_ = done.content_digest;
  phase_ = sends_ ? MemberPhase::kStreamed : MemberPhase::kStaged;
  SendStaged(done);
}

void MemberMachine::SendStaged(const StreamDone& done) {
  Staged staged{key_, done.content_digest, done.bytes, done.phases, std::nullopt};
  if (config_.offer != told_) {
    told_ = config_.offer;
    staged.offer = config_.offer;
    staged.offer->manifests = manifests_.Digests();
  }
  Send(std::move(staged));
}

void MemberMachine::Handle(const Commit& commit) {
  if (commit.key != key_ || key_.version() != newest_) return;
  if (phase_ == MemberPhase::kStaged) {
    phase_ = MemberPhase::kInstalling;
    Emit(InstallVersion{key_});
  } else if (phase_ == MemberPhase::kStreamed) {
    phase_ = MemberPhase::kIdle;
    Emit(SourceFree{label_});
  } else if (phase_ == MemberPhase::kStreaming && sends_) {
    committed_ = true;
  } else if (phase_ == MemberPhase::kBroken && sends_) {
    // Its own trouble came too late to matter: the workers had all bytes.
    committed_ = true;
    BeginAbort(false);
  }
}

void MemberMachine::Resume(bool committed) {
  engine_quiet_ = false;
  if (std::exchange(quiesced_, false)) Emit(ResumeEngine{key_, committed});
}

void MemberMachine::Handle(const InstallDone& done) {
  if (phase_ != MemberPhase::kInstalling || done.key != key_) return;
  phase_ = MemberPhase::kIdle;
  if (done.status.ok()) {
    TakeInService();
    Resume(true);
  } else {
    dirty_ = true;  // S2: how far the copy came is not known, and siblings may serve the new one
    engine_quiet_ = false;  // to the sink it may be installed: it must hear when it is written over
  }
  Send(Installed{key_, WireStatus::From(done.status), done.memory_digest, done.pause_seconds,
                 install_count_});
}

}  // namespace packcast
