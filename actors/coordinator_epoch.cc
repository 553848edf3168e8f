// One epoch, as long as all goes well: propose, agree, quiesce, stream, commit.
#include <algorithm>

#include "actors/coordinator_machine.h"
#include "protocol/limits.h"

namespace packcast {

void CoordinatorMachine::BeginEpoch(const PendingSync& sync) {
  Epoch& epoch = epoch_.emplace();
  epoch.key = EpochKey{config_.model, term_, EpochId(++last_epoch_), Attempt(1)};
  epoch.label = sync.label;
  epoch.callers = sync.callers;
  epoch.held = sync.held;
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
  epoch.phase_limit = limit;
  epoch.deadline = now_ + limit;
  for (Participant& p : epoch.participants) {
    const bool installs = phase == EpochPhase::kCommitting && !p.ended;
    p.answered = p.lost || (p.decided && !installs);
  }
  Emit(WakeAt{epoch.deadline});
}

void CoordinatorMachine::Propose() {
  Epoch& epoch = *epoch_;
  for (const Role role : {Role::kTrainer, Role::kWorker}) {
    for (const Member* member : membership_.CompleteRanks(role)) {
      if (role == Role::kWorker && epoch.barred.contains(member->unit)) continue;
      Participant participant;
      participant.id = member->id;
      participant.role = role;
      participant.unit = member->unit;
      participant.rank_in_unit = member->rank_in_unit;
      epoch.participants.push_back(std::move(participant));
    }
  }
  packcast::Propose propose{epoch.key, epoch.label, SyncKind::kFull, std::nullopt,
                            epoch.manifest->digest()};
  if (IsSettled()) {
    GoAhead();
    propose.contract_digest = epoch.contract_digest;
    propose.generations = settled_->generations;
  }
  EnterPhase(EpochPhase::kOffers,
             epoch.ahead ? config_.deadlines.prepare : config_.deadlines.offer);
  for (const Participant& participant : epoch.participants) Send(participant.id, propose);
  TellWhoIsBusy();
}

// Whether the last epoch's contract would be made again, as far as is known here.
bool CoordinatorMachine::IsSettled() {
  Epoch& epoch = *epoch_;
  if (!settled_ || settled_->manifest_digest != epoch.manifest->digest()) return false;
  if (settled_->held != epoch.held) return false;
  for (const GenerationId id : settled_->generations) {
    const bool lives = std::any_of(generations_.begin(), generations_.end(),
                                   [id](const Generation& g) { return g.id == id; });
    if (!lives) return false;
  }
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
  epoch.generations.clear();
  for (const GenerationId id : settled_->generations) epoch.generations.push_back({id, true});
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
  const EpochKey& present = participant->decided ? *participant->decided : epoch_->key;
  if (key == nullptr || *key != present) return;  // S6: of another attempt
  if (participant->decided) {
    OnDecided(participant, message);
  } else {
    OnAnswer(participant, message);
  }
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
  if (const auto* staged = std::get_if<Staged>(&message); staged != nullptr) {
    if (staged->offer) {
      // Told once, whatever becomes of the attempt; one that comes after it counts with it.
      p.offer = membership_.Find(p.id)->offer = *staged->offer;
      epoch.offers_changed = true;
    }
    // Who streams early may be through before the last one of all has said that it is prepared.
    const bool early = epoch.phase == EpochPhase::kOffers && StreamsEarly(p) && p.prepared;
    if (early && !p.staged) OnStaged(&p, *staged);
    if (early) return;
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
    if (prepared->rendezvous) TakeRendezvous(p.id, *prepared->rendezvous);
  } else if (const auto* staged = std::get_if<Staged>(&message)) {
    OnStaged(&p, *staged);
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
  participant->bytes = progress.bytes;
  PublishProgress(*participant);
}

void CoordinatorMachine::OnStaged(Participant* participant, const Staged& staged) {
  Participant& p = *participant;
  p.staged = true;
  p.content_digest = staged.content_digest;
  p.phases = staged.phases;
  if (p.phases.size() > limits::kPhases) p.phases.resize(limits::kPhases);
  for (Phase& phase : p.phases) phase.name = WireText(phase.name, limits::kNameBytes);
  p.bytes = staged.bytes;
  // Who was through early took no time of the transfer phase.
  const bool began = epoch_->phase != EpochPhase::kOffers;
  p.staged_seconds = began ? ToSeconds(now_ - epoch_->transfer_began) : 0;
  PublishProgress(p);
}

void CoordinatorMachine::PublishProgress(const Participant& participant) {
  const Epoch& epoch = *epoch_;
  Publish("progress", {{"member", participant.id.name},
                       {"epoch", epoch.key.epoch.value},
                       {"bytes", participant.bytes},
                       {"total_bytes", epoch.manifest->total_bytes()}});
}

// Whether a member that is prepared streams without being told to (MemberMachine::StreamsEarly).
bool CoordinatorMachine::StreamsEarly(const Participant& participant) {
  const Epoch& epoch = *epoch_;
  if (!epoch.ahead || epoch.contract->install != InstallMode::kStaged) return false;
  return participant.role == Role::kWorker || membership_.Find(participant.id)->unit_size == 1;
}

void CoordinatorMachine::OnInstalled(Participant* participant, const Installed& installed) {
  if (const Status status = installed.status.ToStatus(); !status.ok()) {
    const std::string& name = participant->id.name;
    const Status reason = status.WithContext(name + " in install");
    membership_.Find(participant->id)->dirty = true;
    membership_.Find(participant->id)->weights.reset();
    ExpelUnit(participant->unit, name, reason);
    BlameLate(reason, name);
    return;
  }
  participant->installed = true;
  participant->memory_digest = installed.memory_digest;
  participant->pause_seconds = installed.pause_seconds;
  Member* member = membership_.Find(participant->id);
  member->serving = epoch_->version();
  member->dirty = false;
  member->weights =
      ServedWeights{epoch_->manifest->digest(), participant->content_digest, epoch_->label};
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
                      [](const Participant& p) { return p.prepared || p.out(); });
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
      DecideReplicas();
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

void CoordinatorMachine::SendRows(const Participant& participant, SharedMessages* parts) {
  const Digest& digest = epoch_->manifest->digest();
  if (std::find(participant.offer.manifests.begin(), participant.offer.manifests.end(), digest) !=
      participant.offer.manifests.end()) {
    return;
  }
  if (parts->empty()) {
    for (ManifestPart& part : ManifestParts(*epoch_->manifest)) {
      parts->push_back(Shared(std::move(part)));
    }
  }
  for (const auto& part : *parts) Emit(SendToMember{participant.id, part});
}

void CoordinatorMachine::QuiesceOrStart() {
  Epoch& epoch = *epoch_;
  if (epoch.contract->install != InstallMode::kInPlace) {
    StartTransfer();
    return;
  }
  EnterPhase(EpochPhase::kQuiescing, config_.deadlines.quiesce);
  for (Participant& p : epoch.participants) {
    if (p.out() || p.role != Role::kWorker) {
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
  if (!epoch.catch_up) {
    Publish("epoch.transfer", {{"epoch", epoch.key.epoch.value},
                               {"attempt", epoch.key.attempt.value},
                               {"workers", static_cast<uint64_t>(epoch.LiveReplicas())}});
  }
  for (Participant& p : epoch.participants) {
    if (p.out()) continue;
    if (!StreamsEarly(p)) Send(p.id, Start{epoch.key});
    if (!p.staged) PublishProgress(p);
    p.answered = p.staged;
  }
  Advance();  // all may be through
}

// Of two workers that hold different bytes the one that has not what the root sent; nobody while
// that is not known.
std::string CoordinatorMachine::WhoseContentIsWrong(const Participant& a,
                                                    const Participant& b) const {
  const std::optional<Digest> sent = epoch_->SentDigest();
  if (sent == a.content_digest) return b.id.name;
  if (sent == b.content_digest) return a.id.name;
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
  if (epoch.catch_up) {
    if (!CheckProvided()) return;
  } else {
    last_committed_ = epoch.key.version();
  }
  EnterPhase(EpochPhase::kCommitting, config_.deadlines.install);
  for (Participant& p : epoch.participants) {
    if (p.role == Role::kTrainer && p.staged) p.answered = true;
    if (!p.out()) Send(p.id, Commit{epoch.key});
  }
}

void CoordinatorMachine::EndDecided() {
  const Epoch& epoch = *epoch_;
  settled_.reset();
  const bool is_whole =
      std::all_of(epoch.participants.begin(), epoch.participants.end(),
                  [&](const Participant& p) { return !p.decided || *p.decided == epoch.key; });
  if (is_whole && epoch.expelled.empty() && !epoch.catch_up) {
    settled_ = Settled{*epoch.contract,
                       epoch.contract_digest,
                       epoch.transfer_limit,
                       epoch.manifest->digest(),
                       {},
                       epoch.held,
                       {},
                       epoch.offers_changed};
    for (const FlowGeneration& flow : epoch.generations) {
      settled_->generations.push_back(flow.id);
    }
    for (const Participant& p : epoch.participants) settled_->members.push_back(p.id);
  }
  if (epoch.LiveReplicas() > 0) {
    EndEpoch(OkStatus());
    return;
  }
  EndEpoch(Unavailable("version " + ToString(epoch.version()) +
                       " was committed, but no replica serves it: " + epoch.failure.ToString()));
}

void CoordinatorMachine::OnPhaseDeadline() {
  Epoch& epoch = *epoch_;
  PutDeadlineOff();
  if (now_ < epoch.deadline) return;
  const std::string limit = std::to_string(ToMilliseconds(now_ - epoch.phase_began)) + " ms";
  const Status late = DeadlineExceeded(
      "no answer in phase " + std::string(EpochPhaseName(epoch.phase)) + " within " + limit);
  if (epoch.phase == EpochPhase::kWaitReplicas) {
    EndEpoch(FailedPrecondition(
        "only " + std::to_string(membership_.CompleteUnits(Role::kWorker).size()) +
        " of at least " + std::to_string(config_.min_replicas) + " complete replicas after " +
        limit + "; start workers, or readmit drained replicas" +
        (epoch.failure.ok() ? "" : "; the last attempt: " + epoch.failure.ToString())));
    return;
  }
  std::vector<Participant> silent;
  for (const Participant* p : epoch.Waiting()) silent.push_back(*p);
  if (epoch.phase == EpochPhase::kStreaming) {
    // Everybody answers beats but bytes do not arrive: blame the worker that is furthest behind.
    std::erase_if(silent, [](const Participant& p) { return p.role != Role::kWorker; });
    const auto last = std::min_element(
        silent.begin(), silent.end(),
        [](const Participant& a, const Participant& b) { return a.bytes < b.bytes; });
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
