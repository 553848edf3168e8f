// Replicas that are behind while no epoch runs: told, and caught up from a worker that keeps what
// it has installed. A catch-up is an epoch of another kind; what is the same for both is in the
// other files.
#include <algorithm>
#include <iterator>
#include <utility>

#include "actors/coordinator_machine.h"

namespace packcast {
namespace {

// After a failure; doubled by each further one.
constexpr Duration kFirstPause = Seconds(1);
constexpr Duration kLongestPause = Seconds(30);

Duration PauseAfter(uint32_t failures) {
  Duration pause = kFirstPause;
  for (uint32_t k = 1; k < failures && pause < kLongestPause; ++k) pause *= 2;
  return std::min(pause, kLongestPause);
}

// Whether each of `ranks` offers a transport that `provider` does.
bool Reaches(const Member& provider, const std::vector<const Member*>& ranks) {
  const auto& ways = provider.offer.transports;
  return std::all_of(ranks.begin(), ranks.end(), [&](const Member* rank) {
    return std::any_of(
        rank->offer.transports.begin(), rank->offer.transports.end(), [&](const auto& theirs) {
          return std::any_of(ways.begin(), ways.end(),
                             [&](const auto& way) { return way.kind == theirs.kind; });
        });
  });
}

}  // namespace

// After each event. Costs nothing to speak of while an epoch runs or all serve the same.
void CoordinatorMachine::LookForBehind() {
  const std::optional<Time> before = std::exchange(look_again_at_, std::nullopt);
  if (epoch_ || stop_at_ || !pending_.empty() || AllServeTheSame(membership_)) {
    settle_until_.reset();
    if (!epoch_ && pending_.empty()) behind_.clear();
    return;
  }
  if (rows_wanted_ && now_ >= rows_wanted_->deadline) GiveRowsUp("did not send its rows in time");
  const Standing standing = StandingOf(membership_);
  std::erase_if(behind_, [&](const auto& b) { return !standing.behind.contains(b.first); });
  const std::vector<std::string> due = DueForCatchUp(standing);
  if (due.empty() && !HasNews(standing)) settle_until_.reset();
  if (!due.empty() || HasNews(standing)) {
    if (!settle_until_) settle_until_ = now_ + config_.deadlines.catch_up_settle;
    look_again_at_ = settle_until_;
    if (now_ >= *settle_until_) {
      look_again_at_.reset();
      TellBehind(standing);
      if (!due.empty()) TryCatchUp(standing, due);
    }
  }
  if (!epoch_ && !look_again_at_) look_again_at_ = NextTry(standing);
  if (look_again_at_ && look_again_at_ != before) Emit(WakeAt{*look_again_at_});
}

bool CoordinatorMachine::HasNews(const Standing& standing) const {
  return std::any_of(standing.behind.begin(), standing.behind.end(), [&](const auto& behind) {
    const auto known = behind_.find(behind.first);
    return known == behind_.end() || !known->second.told;
  });
}

void CoordinatorMachine::TellBehind(const Standing& standing) {
  for (const auto& [replica, lacking] : standing.behind) {
    if (std::exchange(behind_[replica].told, true)) continue;
    Version oldest = lacking.ranks.front()->serving;
    for (const Member* rank : lacking.ranks) oldest = std::min(oldest, rank->serving);
    Publish("replica.behind", {{"replica", replica},
                               {"version", ToString(oldest)},
                               {"newest", ToString(standing.newest)},
                               {"served", !standing.providers.empty()}});
  }
}

// Those that may be caught up now.
std::vector<std::string> CoordinatorMachine::DueForCatchUp(const Standing& standing) const {
  std::vector<std::string> due;
  if (standing.providers.empty()) return due;
  for (const auto& [replica, lacking] : standing.behind) {
    const auto known = behind_.find(replica);
    const bool waits = known != behind_.end() && now_ < known->second.next_try;
    if (lacking.can_catch_up && !waits) due.push_back(replica);
  }
  return due;
}

// When the next of those that were put off is due.
std::optional<Time> CoordinatorMachine::NextTry(const Standing& standing) const {
  std::optional<Time> next;
  if (standing.providers.empty()) return next;
  for (const auto& [replica, behind] : behind_) {
    const auto lacking = standing.behind.find(replica);
    if (lacking == standing.behind.end() || !lacking->second.can_catch_up) continue;
    if (behind.next_try <= now_) continue;
    next = next ? std::min(*next, behind.next_try) : behind.next_try;
  }
  return next;
}

// From the next provider in turn that reaches any of them; the others have their turn after that.
// One that no transport reaches must not keep those from it that are asked with it.
void CoordinatorMachine::TryCatchUp(const Standing& standing,
                                    const std::vector<std::string>& replicas) {
  for (size_t k = 0; k < standing.providers.size(); ++k) {
    const Member& provider = *standing.providers[(provider_turn_ + k) % standing.providers.size()];
    std::vector<std::string> reached;
    std::copy_if(replicas.begin(), replicas.end(), std::back_inserter(reached),
                 [&](const std::string& replica) {
                   return Reaches(provider, standing.behind.at(replica).ranks);
                 });
    if (reached.empty()) continue;
    const auto manifest = RowsOf(provider);
    if (manifest == nullptr) {
      look_again_at_ = rows_wanted_->deadline;
      return;
    }
    settle_until_.reset();
    BeginCatchUp(standing, provider, reached, manifest);
    return;
  }
  settle_until_.reset();
  for (const std::string& replica : replicas) {
    PutOff(replica, standing.providers.front()->id.name +
                        " offers no transport that all its ranks do, nor does another that serves "
                        "the version");
  }
}

// ---- rows that this coordinator does not know ---------------------------------------------------

// Of what `provider` serves; null while it is asked for them.
std::shared_ptr<const Manifest> CoordinatorMachine::RowsOf(const Member& provider) {
  const Digest& digest = provider.weights->manifest_digest;
  if (auto known = manifests_.Find(digest)) return known;
  if (rows_got_ != nullptr && rows_got_->digest() == digest) return rows_got_;
  const bool asked =
      rows_wanted_ && rows_wanted_->from == provider.id && rows_wanted_->digest == digest;
  if (!asked) {
    rows_wanted_ = RowsWanted{provider.id, digest, now_ + config_.deadlines.offer, {}};
    Send(provider.id, ManifestWanted{config_.model, digest});
  }
  return nullptr;
}

void CoordinatorMachine::TakeRows(const MemberId& from, const ManifestPart& part) {
  if (!rows_wanted_ || rows_wanted_->from != from || rows_wanted_->digest != part.digest) return;
  if (const Status status = rows_wanted_->parts.Add(part); !status.ok()) {
    GiveRowsUp(status.ToString());
    return;
  }
  auto whole = rows_wanted_->parts.Find(part.digest);
  if (whole == nullptr) return;
  rows_got_ = std::move(whole);
  rows_wanted_.reset();
}

// Who was asked for its rows is no provider until it has installed something again.
void CoordinatorMachine::GiveRowsUp(const std::string& why) {
  const MemberId from = rows_wanted_->from;
  rows_wanted_.reset();
  Member* const member = membership_.Find(from);
  if (member == nullptr) return;
  member->weights.reset();
  Publish("manifest.bad", {{"member", from.name}, {"error", WireText(why)}});
}

// ---- one catch-up -------------------------------------------------------------------------------

void CoordinatorMachine::BeginCatchUp(const Standing& standing, const Member& provider,
                                      const std::vector<std::string>& replicas,
                                      std::shared_ptr<const Manifest> manifest) {
  Epoch& epoch = epoch_.emplace();
  epoch.key = EpochKey{config_.model, term_, EpochId(++last_epoch_), Attempt(1)};
  epoch.catch_up = CatchUp{standing.newest, provider.id, provider.weights->content_digest};
  epoch.label = provider.weights->label;
  epoch.manifest = std::move(manifest);
  epoch.phase = EpochPhase::kOffers;
  epoch.began = epoch.phase_began = now_;
  const auto add = [&](const Member& member, Role role) {
    Participant participant;
    participant.id = member.id;
    participant.role = role;
    participant.unit = member.unit;
    participant.rank_in_unit = member.rank_in_unit;
    epoch.participants.push_back(std::move(participant));
  };
  add(provider, Role::kTrainer);
  ValueArray names;
  for (const std::string& replica : replicas) {
    for (const Member* rank : standing.behind.at(replica).ranks) add(*rank, Role::kWorker);
    names.push_back(replica);
  }
  Publish("catch_up.begin", {{"epoch", epoch.key.epoch.value},
                             {"version", ToString(epoch.version())},
                             {"provider", provider.id.name},
                             {"replicas", std::move(names)},
                             {"bytes", epoch.manifest->total_bytes()}});
  EnterPhase(EpochPhase::kOffers, config_.deadlines.offer);
  const packcast::Propose propose{epoch.key, epoch.label, SyncKind::kCatchUp, epoch.version(),
                                  epoch.manifest->digest()};
  for (const Participant& p : epoch.participants) Send(p.id, propose);
}

// An attempt's members give up what they had with others when they prepare, and all of it when they
// abort.
void CoordinatorMachine::ForgetGenerations() {
  if (!epoch_->catch_up) {
    generations_.clear();
    return;
  }
  std::erase_if(generations_, [&](const Generation& generation) {
    return std::any_of(epoch_->participants.begin(), epoch_->participants.end(),
                       [&](const Participant& p) { return generation.Has(p.id); });
  });
}

// S1: what came is what the version is made of, and not what has become of it since.
bool CoordinatorMachine::CheckProvided() {
  const Epoch& epoch = *epoch_;
  const CatchUp& catch_up = *epoch.catch_up;
  const bool hashed = epoch.contract->integrity == Integrity::kContentHash;
  if (!hashed || catch_up.content_digest.IsZero()) return true;
  for (const Participant& p : epoch.participants) {
    if (p.lost || p.excluded || p.role != Role::kWorker) continue;
    if (p.content_digest == catch_up.content_digest) continue;
    BeginAbort(DataLoss(catch_up.provider.name + " serves " + ToString(catch_up.version) +
                        " with content " + ToHex(catch_up.content_digest) + " and has sent " +
                        ToHex(p.content_digest) +
                        "; its sink says can_serve and changes what was installed"),
               catch_up.provider.name, true);
    return false;
  }
  return true;
}

// For something better. Nobody is waited for: who has heard of it gives it up before it answers
// anything else.
void CoordinatorMachine::DropCatchUp(const Status& why) {
  Epoch& epoch = *epoch_;
  const bool failed = epoch.phase == EpochPhase::kAborting;
  if (!failed) {
    const AbortAttempt abort{epoch.key, WireStatus::From(why), ""};
    for (const Participant& p : epoch.participants) {
      if (Member* member = membership_.Find(p.id)) member->contract_held = {};
      if (!p.lost) Send(p.id, abort);
    }
  }
  epoch.phase_seconds.push_back(
      {std::string(EpochPhaseName(epoch.phase)), ToSeconds(now_ - epoch.phase_began)});
  if (failed) {
    EndCatchUp(epoch.failure);
    return;
  }
  Publish("catch_up.end", {{"report", CatchUpReport(epoch, why, now_)}});
  epoch_.reset();
}

void CoordinatorMachine::EndCatchUp(const Status& status) {
  Publish("catch_up.end", {{"report", CatchUpReport(*epoch_, status, now_)}});
  PutOff(status);
  epoch_.reset();
}

// Whoever it did not work for waits before it is tried again; a provider that cannot is none.
void CoordinatorMachine::PutOff(const Status& status) {
  const Epoch& epoch = *epoch_;
  std::map<std::string, std::string> units;  // and why
  for (const ExpelledUnit& expelled : epoch.expelled) units[expelled.unit] = expelled.reason;
  if (!status.ok()) {
    const bool provider_failed = !epoch.hearsay && epoch.culprit == epoch.catch_up->provider.name;
    const Participant* culprit = epoch.hearsay ? nullptr : epoch.FindName(epoch.culprit);
    if (epoch.suspect) culprit = epoch.FindName(epoch.suspect->name);
    if (provider_failed) {
      Member* const provider = membership_.Find(epoch.catch_up->provider);
      if (provider != nullptr) provider->weights.reset();
    } else if (culprit != nullptr) {
      units.try_emplace(culprit->unit, status.ToString());
    }
    const bool nobody = units.empty() && !provider_failed;
    for (const Participant& p : epoch.participants) {
      if (nobody && p.role == Role::kWorker) units[p.unit] = status.ToString();
    }
    if (!provider_failed) ++provider_turn_;
  }
  for (const auto& [unit, why] : units) PutOff(unit, why);
}

void CoordinatorMachine::PutOff(const std::string& replica, const std::string& why) {
  Behind& behind = behind_[replica];
  behind.next_try = now_ + PauseAfter(++behind.failures);
  behind.why = why;
}

}  // namespace packcast
