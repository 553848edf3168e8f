// One epoch, as long as all goes well: propose, contract, rendezvous, quiesce, stream, commit.
#include <algorithm>

#include "actors/coordinator_machine.h"
#include "protocol/limits.h"

namespace packcast {

void CoordinatorMachine::BeginEpoch(const PendingSync& sync) {
  Epoch& epoch = epoch_.emplace();
  epoch.key = EpochKey{config_.model, term_, EpochId(++last_epoch_), Attempt(1)};
  epoch.label = sync.label;
  epoch.callers = sync.callers;
  epoch.manifest = manifests_.Find(sync.manifest_digest);
  epoch.began = epoch.phase_began = now_;
  last_label_ = sync.label;
  Publish("epoch.begin", {{"epoch", epoch.key.epoch.value},
                          {"version", ToString(epoch.key.version())},
                          {"label", epoch.label},
                          {"bytes", epoch.manifest->total_bytes()}});
  EnterPhase(EpochPhase::kWaitReplicas, config_.deadlines.wait_replicas);
  Advance();
}

void CoordinatorMachine::EnterPhase(EpochPhase phase, Duration limit) {
  Epoch& epoch = *epoch_;
  epoch.phase_seconds.push_back(
      {std::string(EpochPhaseName(epoch.phase)), ToSeconds(now_ - epoch.phase_began)});
  epoch.phase = phase;
  epoch.phase_began = now_;
  epoch.deadline = now_ + limit;
  for (Participant& participant : epoch.participants) participant.answered = participant.lost;
  Emit(WakeAt{epoch.deadline});
}

void CoordinatorMachine::Propose() {
  Epoch& epoch = *epoch_;
  const auto add = [&](Role role, const std::string& unit) {
    for (const Member* member : membership_.Ranks(role, unit)) {
      Participant participant;
      participant.id = member->id;
      participant.role = role;
      participant.unit = unit;
      participant.rank_in_unit = member->rank_in_unit;
      epoch.participants.push_back(std::move(participant));
    }
  };
  for (const std::string& unit : membership_.CompleteUnits(Role::kTrainer)) {
    add(Role::kTrainer, unit);
  }
  for (const std::string& unit : membership_.CompleteUnits(Role::kWorker)) {
    add(Role::kWorker, unit);
  }
  packcast::Propose propose{epoch.key, epoch.label, SyncKind::kFull, std::nullopt,
                            epoch.manifest->digest()};
  if (IsSettled()) {
    GoAhead();
    propose.contract_digest = epoch.contract_digest;
    propose.generation = epoch.generation;
  }
  EnterPhase(EpochPhase::kOffers,
             epoch.ahead ? config_.deadlines.prepare : config_.deadlines.offer);
  for (const Participant& participant : epoch.participants) Send(participant.id, propose);
}

// Whether the last epoch's contract would be made again, as far as is known here.
bool CoordinatorMachine::IsSettled() {
  Epoch& epoch = *epoch_;
  if (!settled_ || !generation_ || settled_->generation != generation_->id) return false;
  if (settled_->manifest_digest != epoch.manifest->digest()) return false;
  std::vector<MemberId> members;
  for (const Participant& p : epoch.participants) {
    members.push_back(p.id);
    if (membership_.Find(p.id)->contract_held != settled_->contract_digest) return false;
  }
  if (members != settled_->members) return false;
  for (Participant& p : epoch.participants) p.offer = membership_.Find(p.id)->offer;
  if (!settled_->offers_changed) return true;
  const StatusOr<Contract> contract = ContractOfOffers();
  settled_->offers_changed =
      !contract.ok() || ContractDigest(*contract) != settled_->contract_digest;
  return !settled_->offers_changed;
}

// Offers and contract in one question.
void CoordinatorMachine::GoAhead() {
  Epoch& epoch = *epoch_;
  epoch.ahead = true;
  epoch.contract = settled_->contract;
  epoch.contract_digest = settled_->contract_digest;
  epoch.transfer_limit = settled_->transfer_limit;
  epoch.generation = settled_->generation;
  epoch.reuse_generation = true;
}

void CoordinatorMachine::HandleEpochMessage(const MemberId& from, const MemberMessage& message) {
  if (!epoch_) return;
  Participant* participant = epoch_->Find(from);
  if (participant == nullptr || participant->lost) return;
  const EpochKey* key = std::visit(
      [](const auto& m) -> const EpochKey* {
        if constexpr (requires { m.key; }) {
          return &m.key;
        } else {
          return nullptr;
        }
      },
      message);
  if (key == nullptr || *key != epoch_->key) return;  // S6: of another attempt
  OnAnswer(participant, message);
}

// Whether this is what the present phase still waits for from this participant. Everything else (a
// duplicate, something late or made up) must change nothing.
bool CoordinatorMachine::IsAsked(const Participant& p, const MemberMessage& message) const {
  if (p.answered) return false;
  switch (epoch_->phase) {
    case EpochPhase::kWaitReplicas:
    case EpochPhase::kAborting: return false;
    case EpochPhase::kOffers:
      return std::holds_alternative<OfferReply>(message) ||
             (epoch_->ahead && std::holds_alternative<Prepared>(message));
    case EpochPhase::kPreparing: return std::holds_alternative<Prepared>(message);
    case EpochPhase::kJoining: return std::holds_alternative<GenerationJoined>(message);
    case EpochPhase::kQuiescing: return std::holds_alternative<Quiesced>(message);
    case EpochPhase::kStreaming: return std::holds_alternative<Staged>(message);
    case EpochPhase::kCommitting:
      // Trainers do not vote; their Staged may come after the decision, and belongs to the report.
      return p.role == Role::kWorker ? std::holds_alternative<Installed>(message)
                                     : std::holds_alternative<Staged>(message);
  }
  return false;
}

void CoordinatorMachine::OnAnswer(Participant* participant, const MemberMessage& message) {
  Epoch& epoch = *epoch_;
  Participant& p = *participant;
  if (const auto* progress = std::get_if<Progress>(&message)) {
    OnProgress(&p, *progress);
    return;
  }
  if (const auto* staged = std::get_if<Staged>(&message); staged && staged->offer) {
    // Told once, whatever becomes of the attempt.
    membership_.Find(p.id)->offer = *staged->offer;
    epoch.offers_changed = true;
  }
  if (!IsAsked(p, message)) {
    OnTrouble(&p, message);
    return;
  }
  if (const auto* offer = std::get_if<OfferReply>(&message)) {
    p.offer = membership_.Find(p.id)->offer = offer->offer;
  } else if (const auto* prepared = std::get_if<Prepared>(&message)) {
    p.prepared = true;
    p.plan_digest = prepared->plan_digest;
    const Flow& flow = epoch.contract->flows.front();
    if (flow.members[flow.root].member == p.id) {
      epoch.rendezvous_kind = prepared->rendezvous_kind;
      epoch.rendezvous_blob = prepared->rendezvous_blob;
    }
  } else if (const auto* staged = std::get_if<Staged>(&message)) {
    p.staged = true;
    p.content_digest = staged->content_digest;
    p.phases = staged->phases;
    p.staged_seconds = ToSeconds(now_ - epoch.transfer_began);
  } else if (const auto* installed = std::get_if<Installed>(&message)) {
    OnInstalled(&p, *installed);
  }
  p.answered = true;
  Advance();
}

void CoordinatorMachine::OnProgress(Participant* participant, const Progress& progress) {
  const Epoch& epoch = *epoch_;
  // The root may end its stream after the workers had all bytes, and the decision.
  if (epoch.phase != EpochPhase::kStreaming && epoch.phase != EpochPhase::kCommitting) return;
  participant->completed = progress.completed;
  Publish("progress", {{"member", participant->id.name},
                       {"epoch", epoch.key.epoch.value},
                       {"completed", progress.completed},
                       {"bytes", progress.bytes},
                       {"total_bytes", epoch.manifest->total_bytes()}});
}

void CoordinatorMachine::OnInstalled(Participant* participant, const Installed& installed) {
  if (const Status status = installed.status.ToStatus(); !status.ok()) {
    const std::string& name = participant->id.name;
    const Status reason = status.WithContext(name + " in install");
    membership_.Find(participant->id)->dirty = true;
    ExpelUnit(participant->unit, name, reason);
    BlameLate(reason, name);
    return;
  }
  participant->installed = true;
  participant->memory_digest = installed.memory_digest;
  participant->pause_seconds = installed.pause_seconds;
  Member* member = membership_.Find(participant->id);
  member->serving = epoch_->key.version();
  member->dirty = false;
  member->install_count = installed.install_count;
}

// Goes on when the present phase's question is answered by all who were asked.
void CoordinatorMachine::Advance() {
  Epoch& epoch = *epoch_;
  switch (epoch.phase) {
    case EpochPhase::kWaitReplicas:
      if (membership_.CompleteUnits(Role::kWorker).size() < config_.min_replicas) return;
      Propose();
      return;
    case EpochPhase::kOffers: {
      if (!epoch.Waiting().empty()) return;
      const bool all_prepared =
          std::all_of(epoch.participants.begin(), epoch.participants.end(),
                      [](const Participant& p) { return p.prepared || p.lost || p.excluded; });
      if (epoch.ahead && !all_prepared) {
        // Rare: who changes says so when an epoch ends. Others stream already.
        epoch.Blame(FailedPrecondition("an offer has changed since the last epoch"), "");
        epoch.hearsay = true;  // who is lost now is a better reason
        GiveUp();
      } else if (epoch.ahead) {
        AfterPrepared();
      } else {
        DecideContract();
      }
      return;
    }
    case EpochPhase::kPreparing:
      if (epoch.Waiting().empty()) AfterPrepared();
      return;
    case EpochPhase::kJoining:
      if (epoch.Waiting().empty()) QuiesceOrStart();
      return;
    case EpochPhase::kQuiescing:
      if (epoch.Waiting().empty()) StartTransfer();
      return;
    case EpochPhase::kStreaming: {
      const auto waiting = epoch.Waiting();
      const bool voters_wait = std::any_of(waiting.begin(), waiting.end(),
                                           [](const auto* p) { return p->role == Role::kWorker; });
      if (!voters_wait) DecideCommit();
      return;
    }
    case EpochPhase::kCommitting:
      if (epoch.Waiting().empty()) EndDecided();
      return;
    case EpochPhase::kAborting:
      if (epoch.Waiting().empty()) AfterAbort();
      return;
  }
}

// What the coordinator makes of all offers, deadlines included.
StatusOr<Contract> CoordinatorMachine::ContractOfOffers() const {
  const Epoch& epoch = *epoch_;
  std::vector<MemberOffer> offers;
  for (const Participant& p : epoch.participants) {
    if (p.lost || p.excluded) continue;
    offers.push_back({p.id, p.role, p.unit, p.rank_in_unit, p.offer});
  }
  PC_ASSIGN_OR_RETURN(Contract contract, MakeContract(config_.policy, std::move(offers)));
  const EpochDeadlines& deadlines = config_.deadlines;
  const uint64_t bytes = epoch.manifest->total_bytes();
  // More steps than a plan may have are refused in prepare.
  const uint64_t steps = std::min<uint64_t>(bytes / contract.buffer_bytes + 1, limits::kPlanSteps);
  const Duration transfer_limit =
      deadlines.transfer_base +
      FromSeconds(static_cast<double>(bytes) / deadlines.transfer_floor_bytes_per_second) +
      deadlines.transfer_step * static_cast<int64_t>(steps);
  contract.transfer_deadline = transfer_limit + deadlines.transfer_grace;
  contract.prepare_deadline = deadlines.prepare;
  return contract;
}

void CoordinatorMachine::DecideContract() {
  Epoch& epoch = *epoch_;
  StatusOr<Contract> contract = ContractOfOffers();
  if (!contract.ok()) {
    BeginAbort(contract.status().WithContext("contract"), "", true);
    return;
  }
  epoch.transfer_limit = contract->transfer_deadline - config_.deadlines.transfer_grace;
  epoch.contract = std::move(contract).value();
  epoch.contract_digest = ContractDigest(*epoch.contract);
  SendPrepare();
}

void CoordinatorMachine::SendRows(const Participant& participant) {
  const Digest& digest = epoch_->manifest->digest();
  if (std::find(participant.offer.manifests.begin(), participant.offer.manifests.end(), digest) !=
      participant.offer.manifests.end()) {
    return;
  }
  for (ManifestPart& part : ManifestParts(*epoch_->manifest)) Send(participant.id, std::move(part));
}

void CoordinatorMachine::SendPrepare() {
  Epoch& epoch = *epoch_;
  const Flow& flow = epoch.contract->flows.front();
  std::vector<MemberId> members;
  for (const FlowMember& member : flow.members) members.push_back(member.member);
  const uint32_t ctas = epoch.contract->cta_count_max;
  epoch.reuse_generation = generation_ && generation_->members == members &&
                           generation_->transport == flow.transport &&
                           generation_->cta_count_max == ctas;
  if (!epoch.reuse_generation) {
    generation_ = Generation{GenerationId(++last_generation_), members, flow.transport, ctas};
  }
  epoch.generation = generation_->id;
  epoch.rendezvous_blob.clear();
  EnterPhase(EpochPhase::kPreparing, config_.deadlines.prepare);
  for (const Participant& p : epoch.participants) {
    if (p.lost || p.excluded) continue;
    if (!epoch.rows_sent) SendRows(p);
    Prepare prepare{epoch.key,    epoch.label,      epoch.manifest->digest(), epoch.contract_digest,
                    std::nullopt, epoch.generation, epoch.reuse_generation};
    Member* member = membership_.Find(p.id);
    if (member->contract_held != epoch.contract_digest) prepare.contract = *epoch.contract;
    member->contract_held = epoch.contract_digest;
    Send(p.id, std::move(prepare));
  }
  epoch.rows_sent = true;
}

void CoordinatorMachine::AfterPrepared() {
  Epoch& epoch = *epoch_;
  const Participant* first = nullptr;
  for (const Participant& p : epoch.participants) {
    if (p.lost || p.excluded) continue;
    if (first == nullptr) first = &p;
    if (p.plan_digest == first->plan_digest) continue;
    BeginAbort(Internal("plans differ: " + first->id.name + " has " + ToHex(first->plan_digest) +
                        ", " + p.id.name + " has " + ToHex(p.plan_digest) +
                        "; run the same packcast version everywhere"),
               p.id.name, true);
    return;
  }
  if (epoch.reuse_generation) {
    QuiesceOrStart();
    return;
  }
  EnterPhase(EpochPhase::kJoining, config_.deadlines.rendezvous);
  for (Participant& p : epoch.participants) {
    const auto& members = generation_->members;
    if (p.lost || p.excluded || std::find(members.begin(), members.end(), p.id) == members.end()) {
      p.answered = true;
      continue;
    }
    Send(p.id,
         RendezvousBlob{epoch.key, epoch.generation, epoch.rendezvous_kind, epoch.rendezvous_blob});
  }
}

void CoordinatorMachine::QuiesceOrStart() {
  Epoch& epoch = *epoch_;
  if (epoch.contract->install != InstallMode::kInPlace) {
    StartTransfer();
    return;
  }
  EnterPhase(EpochPhase::kQuiescing, config_.deadlines.quiesce);
  for (Participant& p : epoch.participants) {
    if (p.lost || p.excluded || p.role != Role::kWorker) {
      p.answered = true;
      continue;
    }
    Send(p.id, Quiesce{epoch.key});
  }
}

void CoordinatorMachine::StartTransfer() {
  Epoch& epoch = *epoch_;
  EnterPhase(EpochPhase::kStreaming, epoch.transfer_limit);
  epoch.transfer_began = now_;
  for (const Participant& p : epoch.participants) {
    if (!p.lost && !p.excluded) Send(p.id, Start{epoch.key});
  }
  Publish("epoch.transfer", {{"epoch", epoch.key.epoch.value},
                             {"attempt", epoch.key.attempt.value},
                             {"workers", static_cast<uint64_t>(epoch.LiveReplicas())}});
}

// Of two workers that hold different bytes the one that has not what the root sent; nobody while
// that is not known.
std::string CoordinatorMachine::WhoseContentIsWrong(const Participant& a,
                                                    const Participant& b) const {
  for (const Participant& p : epoch_->participants) {
    if (p.role != Role::kTrainer || p.rank_in_unit != 0 || !p.staged) continue;
    if (p.content_digest == a.content_digest) return b.id.name;
    if (p.content_digest == b.content_digest) return a.id.name;
  }
  return "";
}

// S5: every voter has staged. From here on the epoch cannot be aborted.
void CoordinatorMachine::DecideCommit() {
  Epoch& epoch = *epoch_;
  const Participant* first = nullptr;
  for (const Participant& p : epoch.participants) {
    if (p.lost || p.excluded || p.role != Role::kWorker) continue;
    if (first == nullptr) first = &p;
    if (p.content_digest == first->content_digest) continue;
    const Status reason =
        DataLoss("content differs: " + first->id.name + " holds " + ToHex(first->content_digest) +
                 ", " + p.id.name + " holds " + ToHex(p.content_digest));
    BeginAbort(reason, WhoseContentIsWrong(*first, p), true);
    return;
  }
  last_committed_ = epoch.key.version();
  EnterPhase(EpochPhase::kCommitting, config_.deadlines.install);
  for (Participant& p : epoch.participants) {
    if (p.role == Role::kTrainer && p.staged) p.answered = true;
    if (!p.lost && !p.excluded) Send(p.id, Commit{epoch.key});
  }
}

void CoordinatorMachine::EndDecided() {
  const Epoch& epoch = *epoch_;
  settled_.reset();
  if (epoch.expelled.empty() && generation_) {
    settled_ = Settled{*epoch.contract,          epoch.contract_digest, epoch.transfer_limit,
                       epoch.manifest->digest(), generation_->id,       {},
                       epoch.offers_changed};
    for (const Participant& p : epoch.participants) settled_->members.push_back(p.id);
  }
  if (epoch.LiveReplicas() > 0) {
    EndEpoch(OkStatus());
    return;
  }
  EndEpoch(Unavailable("version " + ToString(epoch.key.version()) +
                       " was committed, but no replica serves it: " + epoch.failure.ToString()));
}

void CoordinatorMachine::OnPhaseDeadline() {
  Epoch& epoch = *epoch_;
  const std::string limit = std::to_string(ToMilliseconds(now_ - epoch.phase_began)) + " ms";
  const Status late = DeadlineExceeded(
      "no answer in phase " + std::string(EpochPhaseName(epoch.phase)) + " within " + limit);
  if (epoch.phase == EpochPhase::kWaitReplicas) {
    EndEpoch(FailedPrecondition(
        "only " + std::to_string(membership_.CompleteUnits(Role::kWorker).size()) +
        " of at least " + std::to_string(config_.min_replicas) + " complete replicas after " +
        limit + "; start workers, or readmit drained replicas"));
    return;
  }
  std::vector<Participant> silent;
  for (const Participant* p : epoch.Waiting()) silent.push_back(*p);
  if (epoch.phase == EpochPhase::kStreaming) {
    // Everybody answers beats but bytes do not arrive: blame the worker that is furthest behind.
    std::erase_if(silent, [](const Participant& p) { return p.role != Role::kWorker; });
    const auto last = std::min_element(
        silent.begin(), silent.end(),
        [](const Participant& a, const Participant& b) { return a.completed < b.completed; });
    if (last != silent.end()) silent = {*last};
  }
  if (epoch.phase == EpochPhase::kAborting) {
    // A trainer rank that has halted waits for us, and we for the others: it still has to drain.
    std::erase_if(silent, [](const Participant& p) { return p.halted; });
    epoch.deadline = now_ + config_.deadlines.abort;
    Emit(WakeAt{epoch.deadline});
  }
  for (const Participant& p : silent) {
    if (epoch_) ExpelSilent(p, late);
  }
}

}  // namespace packcast
