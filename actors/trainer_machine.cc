#include "actors/trainer_machine.h"

#include <algorithm>

namespace packcast {

MemberEffects TrainerMachine::On(const TrainerEvent& event, Time now) {
  MemberEffects effects;
  if (const auto* sync = std::get_if<UserSync>(&event)) {
    Begin(*sync, &effects);
  } else if (const auto* cancel = std::get_if<UserCancel>(&event)) {
    Cancel(*cancel, &effects);
  } else {
    Forward(std::get<MemberEvent>(event), now, &effects);
  }
  SendWaiting(&effects);
  return effects;
}

Status TrainerMachine::CheckInvariants() const {
  if (calls_.size() > kOpenCalls + 1) return Internal("S7: more open sync calls than allowed");
  return member_.CheckInvariants();
}

void TrainerMachine::Begin(const UserSync& sync, MemberEffects* effects) {
  const auto same = [&](const Call& call) { return call.sync.label == sync.label; };
  if (std::any_of(calls_.begin(), calls_.end(), same)) {
    effects->push_back(SyncFinished{
        sync.label, Busy("a sync with label " + std::to_string(sync.label) + " is open"), {}});
    return;
  }
  if (sync.supersede && calls_.size() == kOpenCalls && !calls_.back().sent) {
    const uint64_t older = calls_.back().sync.label;
    Resolve(older, Cancelled("superseded by sync(" + std::to_string(sync.label) + ")"), {},
            effects);
  }
  // One that supersedes stands beside the queued one until the coordinator has answered that.
  if (calls_.size() >= kOpenCalls + (sync.supersede ? 1 : 0)) {
    effects->push_back(SyncFinished{
        sync.label, Busy("one sync runs and one is queued; wait for one of them"), {}});
    return;
  }
  member_.manifests().Put(sync.manifest);
  calls_.push_back({sync, false, std::nullopt});
}

void TrainerMachine::SendWaiting(MemberEffects* effects) {
  if (!member_.joined()) return;
  for (Call& call : calls_) {
    if (call.sent || call.answer) continue;
    const Manifest& manifest = *call.sync.manifest;
    const bool known = std::find(told_.begin(), told_.end(), manifest.digest()) != told_.end();
    if (!known && member_.config().rank_in_unit == 0) {
      for (ManifestPart& part : ManifestParts(manifest)) {
        effects->push_back(SendToCoordinator{std::move(part)});
      }
      // The coordinator's cache holds this many; older ones must be sent again.
      if (told_.size() >= ManifestCache::kManifests) told_.erase(told_.begin());
      told_.push_back(manifest.digest());
    }
    effects->push_back(SendToCoordinator{SyncCall{member_.config().model, call.sync.label,
                                                  call.sync.kind, std::nullopt, manifest.digest(),
                                                  call.sync.supersede, call.sync.held}});
    call.sent = true;
  }
}

void TrainerMachine::Cancel(const UserCancel& cancel, MemberEffects* effects) {
  for (const Call& call : calls_) {
    if (call.sync.label != cancel.label) continue;
    if (call.answer) return;  // resolves as soon as the source is at rest
    if (call.sent && member_.joined()) {
      effects->push_back(SendToCoordinator{
          SyncCancel{member_.config().model, cancel.label, WireStatus::From(cancel.reason)}});
    } else {
      Resolve(cancel.label, cancel.reason, {}, effects);
    }
    return;
  }
  // Never called: somebody may wait for it all the same.
  if (member_.joined()) {
    effects->push_back(SendToCoordinator{
        SyncCancel{member_.config().model, cancel.label, WireStatus::From(cancel.reason)}});
  }
}

void TrainerMachine::Forward(const MemberEvent& event, Time now, MemberEffects* effects) {
  const auto* message = std::get_if<CoordinatorMessage>(&event);
  const bool lost = std::holds_alternative<CoordinatorLost>(event) ||
                    (std::holds_alternative<CoordinatorUp>(event) && member_.connected());
  const bool expelled =
      member_.connected() && message != nullptr && std::holds_alternative<Expelled>(*message);
  Carry(member_.On(event, now), now, effects);
  if (lost) {
    const auto* why = std::get_if<CoordinatorLost>(&event);
    EndSent("the coordinator went away (" + (why ? why->cause : "a new session began") + ")");
  }
  if (expelled) EndSent("expelled: " + std::get<Expelled>(*message).reason.message);
  ResolveAnswered(effects);
}

void TrainerMachine::Carry(MemberEffects from, Time now, MemberEffects* effects) {
  for (MemberEffect& effect : from) {
    if (const auto* finished = std::get_if<SyncFinished>(&effect)) {
      const auto call = Find(finished->label);
      // S6: an answer to a call of an earlier session says nothing about one that waits.
      if (call == calls_.end() || !call->sent || call->answer) continue;
      call->answer = Answer{finished->status, finished->report};
      continue;
    }
    const auto* prepare = std::get_if<PrepareAttempt>(&effect);
    const auto call = prepare ? Find(prepare->label) : calls_.end();
    if (prepare != nullptr && (call == calls_.end() || call->answer)) {
      // Only an open call promises that the bytes stay as they are.
      const Status status = FailedPrecondition("no sync(" + std::to_string(prepare->label) +
                                               ") is open at this trainer");
      Carry(member_.On(PrepareDone{prepare->key, status, {}, {}, ""}, now), now, effects);
      continue;
    }
    effects->push_back(std::move(effect));
  }
}

// What was sent to the coordinator will not be answered any more.
void TrainerMachine::EndSent(const std::string& why) {
  told_.clear();
  for (Call& call : calls_) {
    if (!call.sent || call.answer) continue;
    call.answer = Answer{Unavailable(why + "; whether the sync was committed is not known here")
                             .WithOutcome(Outcome::kMaybeExecuted),
                         {}};
  }
}

bool TrainerMachine::Reads(uint64_t label) const {
  return member_.phase() != MemberPhase::kIdle && member_.label() == label;
}

// A call resolves no sooner than this rank has stopped reading its bytes: then they may change. The
// workers can have them all while this rank, slower, still pulls.
void TrainerMachine::ResolveAnswered(MemberEffects* effects) {
  const std::vector<Call> open = calls_;
  for (const Call& call : open) {
    if (!call.answer || Reads(call.sync.label)) continue;
    Resolve(call.sync.label, call.answer->status, call.answer->report, effects);
  }
}

std::vector<TrainerMachine::Call>::iterator TrainerMachine::Find(uint64_t label) {
  return std::find_if(calls_.begin(), calls_.end(),
                      [&](const Call& call) { return call.sync.label == label; });
}

// S8: a call that is not open (any more) is not resolved again.
void TrainerMachine::Resolve(uint64_t label, const Status& status, const Value& report,
                             MemberEffects* effects) {
  const auto call = Find(label);
  if (call == calls_.end()) return;
  calls_.erase(call);
  effects->push_back(SyncFinished{label, status, report});
}

}  // namespace packcast
