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
  if (calls_.size() > kOpenCalls) return Internal("S7: more open sync calls than allowed");
  return member_.CheckInvariants();
}

void TrainerMachine::Begin(const UserSync& sync, MemberEffects* effects) {
  const auto same = [&](const Call& call) { return call.sync.label == sync.label; };
  if (std::any_of(calls_.begin(), calls_.end(), same)) {
    effects->push_back(SyncFinished{
        sync.label, Busy("a sync with label " + std::to_string(sync.label) + " is open"), {}});
    return;
  }
  if (calls_.size() >= kOpenCalls) {
    effects->push_back(SyncFinished{
        sync.label, Busy("one sync runs and one is queued; wait for one of them"), {}});
    return;
  }
  member_.manifests().Put(sync.manifest);
  calls_.push_back({sync, false});
}

void TrainerMachine::SendWaiting(MemberEffects* effects) {
  if (!member_.joined()) return;
  for (Call& call : calls_) {
    if (call.sent) continue;
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
    effects->push_back(
        SendToCoordinator{SyncCall{member_.config().model, call.sync.label, call.sync.kind,
                                   std::nullopt, manifest.digest(), call.sync.supersede}});
    call.sent = true;
  }
}

void TrainerMachine::Cancel(const UserCancel& cancel, MemberEffects* effects) {
  for (const Call& call : calls_) {
    if (call.sync.label != cancel.label) continue;
    if (call.sent && member_.joined()) {
      effects->push_back(SendToCoordinator{SyncCancel{member_.config().model, cancel.label}});
    } else {
      Resolve(cancel.label, Cancelled("the caller gave the sync up"), {}, effects);
    }
    return;
  }
}

void TrainerMachine::Forward(const MemberEvent& event, Time now, MemberEffects* effects) {
  const bool lost = std::holds_alternative<CoordinatorLost>(event);
  for (MemberEffect& effect : member_.On(event, now)) {
    if (auto* finished = std::get_if<SyncFinished>(&effect)) {
      Resolve(finished->label, finished->status, finished->report, effects);
    } else {
      effects->push_back(std::move(effect));
    }
  }
  if (!lost) return;
  told_.clear();
  const std::vector<Call> open = calls_;
  for (const Call& call : open) {
    if (!call.sent) continue;
    const Status status =
        Unavailable("the coordinator went away (" + std::get<CoordinatorLost>(event).cause +
                    "); whether the sync was committed is not known here")
            .WithOutcome(Outcome::kMaybeExecuted);
    Resolve(call.sync.label, status, {}, effects);
  }
}

// S8: a call that is not open (any more) is not resolved again.
void TrainerMachine::Resolve(uint64_t label, const Status& status, const Value& report,
                             MemberEffects* effects) {
  const auto call = std::find_if(calls_.begin(), calls_.end(),
                                 [&](const Call& c) { return c.sync.label == label; });
  if (call == calls_.end()) return;
  calls_.erase(call);
  effects->push_back(SyncFinished{label, status, report});
}

}  // namespace packcast
