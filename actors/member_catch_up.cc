// A member's part in a catch-up: an epoch of another kind, in which a worker sends what it serves
// to those that are behind, in the trainer's place.
#include <algorithm>
#include <string>

#include "actors/member_machine.h"

namespace packcast {

// Whether a proposal is one that this member knows and may follow.
Status MemberMachine::CheckProposed(const Propose& propose) const {
  if (propose.kind == SyncKind::kFull) return OkStatus();
  if (propose.kind != SyncKind::kCatchUp) {
    return Unimplemented("full syncs and catch-ups are known here, not kind " +
                         std::to_string(static_cast<int>(propose.kind)));
  }
  if (config_.role != Role::kWorker || !propose.base || propose.base->IsZero()) {
    return InvalidArgument("a catch-up is for workers, and names the version that it brings");
  }
  // What others serve was minted before: by this coordinator, or one of an earlier term.
  if (propose.key.version() < *propose.base) {
    return InvalidArgument("to catch up with " + ToString(*propose.base) + " in " +
                           ToString(propose.key.version()) + ", which is older");
  }
  if (*propose.base < serving_) {  // S2
    return FailedPrecondition("to catch up with " + ToString(*propose.base) + ", but " +
                              ToString(serving_) + " was served here already");
  }
  return OkStatus();
}

// Who sends has what it is asked for, and who receives has not: to install what serves would take
// the bank that serves for the one to write next.
Status MemberMachine::CheckCatchUp() const {
  if (!base_) return OkStatus();
  const bool has = serving_ == *base_ && !dirty_;
  if (has == sends_) return OkStatus();
  return FailedPrecondition("asked to " + std::string(sends_ ? "send " : "receive ") +
                            ToString(*base_) + ", and serves " + ToString(serving_) +
                            (dirty_ ? ", written over" : ""));
}

bool MemberMachine::IsRoot() const {
  return std::any_of(contract_->flows.begin(), contract_->flows.end(),
                     [this](const Flow& flow) { return flow.root_member() == config_.self; });
}

// What was staged serves.
void MemberMachine::TakeInService() {
  serving_ = target();
  dirty_ = false;
  ++install_count_;
  weights_ = ServedWeights{manifest_->digest(), content_digest_, label_};
  served_manifest_ = manifest_;
}

// The rows live as long as what they describe, whatever the cache has let go.
void MemberMachine::Handle(const ManifestWanted& wanted) {
  if (wanted.model != config_.model || served_manifest_ == nullptr) return;
  if (served_manifest_->digest() != wanted.digest) return;
  for (ManifestPart& part : ManifestParts(*served_manifest_)) Send(std::move(part));
}

}  // namespace packcast
