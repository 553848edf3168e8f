#include "tests/sim/coordinator_shell.h"

#include <algorithm>
#include <utility>

#include "actors/states.h"
#include "runtime/base/failpoint.h"
#include "tests/sim/describe.h"

namespace packcast::sim {

namespace {

constexpr Duration kStopMax = Seconds(6);
// What happened to a member may show this much later: silence takes a second, slow work longer.
constexpr Duration kAfterEffect = Seconds(5);

}  // namespace

CoordinatorShell::CoordinatorShell(Surroundings* around, Process* process, CoordinatorConfig config)
    : around_(around), world_(around->world), process_(process), machine_(std::move(config)) {}

void CoordinatorShell::TraceEvent(const CoordinatorEvent& event) {
  const auto add = [&](std::string_view what, uint64_t number, const auto& text) {
    world_->trace.Add(world_->now(), process_->name, what, number, text);
  };
  if (const auto* from = std::get_if<FromMember>(&event)) {
    add("message", NumberOf(from->message),
        [&] { return from->from.name + ": " + Describe(from->message); });
  } else if (const auto* lost = std::get_if<MemberLost>(&event)) {
    add("member-lost", lost->member.incarnation.value,
        [&] { return lost->member.name + " " + lost->cause.ToString(); });
  } else if (const auto* back = std::get_if<MemberBack>(&event)) {
    add("member-back", back->member.incarnation.value, [&] { return back->member.name; });
  } else if (const auto* call = std::get_if<ControlCall>(&event)) {
    add("CONTROL", call->token, [&] { return call->method + " " + call->body.ToString(); });
  }
}

void CoordinatorShell::Feed(const CoordinatorEvent& event) {
  if (stopped_) return;
  if (stopping_since_ && world_->mutation() == Mutation::kShutdownForgotten &&
      (std::holds_alternative<Tick>(event) || std::holds_alternative<MemberLost>(event))) {
    return;
  }
  const bool reminds = std::holds_alternative<Tick>(event) && !machine_.epoch();
  if (reminds && world_->mutation() == Mutation::kCatchUpForgotten) return;
  TraceEvent(event);
  CountEarly(event);
  const std::string_view from = StateName(machine_);
  CoordinatorEffects effects = machine_.On(event, world_->now());
  if (Status status = machine_.CheckInvariants(); !status.ok()) world_->Violate(status.message());
  if (effects.size() > 64 + 16 * (machine_.membership().all().size() + 16)) {
    world_->Violate("S7: too many effects of one step");
  }
  PassFailpoint({"coordinator", from, StateName(machine_)});
  for (CoordinatorEffect& effect : effects) {
    std::visit([this](auto& e) { Do(e); }, effect);
  }
  if (stopped_ && !controls_.empty()) world_->Violate("S8: it ends, and a control call is open");
  if (world_->mutation() != Mutation::kNone) Mutate(event);
}

void CoordinatorShell::CountEarly(const CoordinatorEvent& event) {
  const auto& epoch = machine_.epoch();
  if (!epoch) return;
  if (epoch->ahead) told_ahead_ = epoch->key;  // which an abort forgets
  const auto* from = std::get_if<FromMember>(&event);
  const auto* staged = from == nullptr ? nullptr : std::get_if<Staged>(&from->message);
  if (staged == nullptr || staged->key != epoch->key || staged->key != told_ahead_) return;
  if (epoch->phase == EpochPhase::kOffers) ++world_->stats.staged_early;
  if (epoch->phase == EpochPhase::kAborting) ++world_->stats.staged_crossed;
}

void CoordinatorShell::Control(const std::string& method, Value body) {
  const uint64_t token = ++last_token_;
  controls_[token] = method;
  if (method == "shutdown" && !stopping_since_) {
    stopping_since_ = world_->now();
    // Twice the bound: a coordinator that was frozen catches up first.
    world_->After(process_, kStopMax, [this] {
      world_->After(process_, kStopMax, [this] {
        if (!stopped_) world_->Violate("L2: the coordinator does not end");
      });
    });
  }
  Feed(ControlCall{token, method, std::move(body)});
}

// ---- effects ------------------------------------------------------------------------------------

void CoordinatorShell::CheckDecision(const SendToMember& effect) {
  Truth& truth = *around_->truth;
  if (const auto* abort = std::get_if<AbortAttempt>(&effect.message)) {
    if (truth.decided.contains(abort->key)) world_->Violate("S10: given up after the decision");
    truth.given_up.insert(abort->key);
  }
  const auto* commit = std::get_if<Commit>(&effect.message);
  if (commit == nullptr) return;
  if (truth.given_up.contains(commit->key)) world_->Violate("S10: decided after it was given up");
  if (!truth.decided.insert(commit->key).second) return;
  const auto& epoch = machine_.epoch();
  if (!epoch || !epoch->contract) return world_->Violate("S5: decided without an epoch");
  const auto& staged = truth.staged[commit->key];
  for (const Flow& flow : epoch->contract->flows) {
    for (const FlowMember& member : flow.members) {
      if (member.role == Role::kWorker && !staged.contains(member.member)) {
        world_->Violate("S5: " + KeyText(commit->key) + " is decided before " + member.member.name +
                        " has staged");
      }
    }
  }
}

// B1: who is named as culprit really had something wrong during the epoch or just before.
void CoordinatorShell::CheckBlame(const Value& told, std::string_view reason_field) {
  const Value* culprit = told.Find("culprit");
  if (culprit == nullptr || culprit->AsString()->empty()) return;
  const Time since = epoch_began_ - kAfterEffect;
  const Truth& truth = *around_->truth;
  // A coordinator that was frozen or cut off itself sees everybody late.
  if (truth.FaultySince(*culprit->AsString(), since) || truth.FaultySince("coordinator", since)) {
    return;
  }
  // Hearsay; but nobody is expelled for it.
  const bool expels = told.Find("replica") != nullptr;
  if (!expels && truth.BrokeOffSince(*culprit->AsString(), since)) return;
  const std::string& reason = *told.Find(reason_field)->AsString();
  // All ranks of a flow owe an answer while one of them is missing, and none says whom it misses.
  for (const std::string_view phase : {"phase rendezvous", "phase transfer"}) {
    if (reason.find(phase) != std::string::npos) return;
  }
  world_->Violate("B1: " + *culprit->AsString() + " is blamed for nothing: " + reason);
}

void CoordinatorShell::CheckStopping(std::string_view what) {
  if (stopping_since_) world_->Violate("while it shuts down: " + std::string(what));
}

void CoordinatorShell::Do(const SendToMember& effect) {
  PassFailpoint({"coordinator", "send", MessageName(effect.message)});
  world_->trace.Add(world_->now(), process_->name, "  send", NumberOf(effect.message),
                    [&] { return effect.to.name + ": " + Describe(effect.message); });
  CheckDecision(effect);
  CoordinatorMessage message = effect.message;
  if (world_->mutation() == Mutation::kExpelledForgotten &&
      std::holds_alternative<Expelled>(message)) {
    return;
  }
  if (auto* rendezvous = std::get_if<RendezvousBlob>(&message);
      rendezvous != nullptr && world_->mutation() == Mutation::kGenerationReused) {
    for (FlowRendezvous& flow : rendezvous->flows) {
      if (first_blob_.empty()) first_blob_ = flow.blob;
      flow.blob = first_blob_;
    }
  }
  around_->network->Send(process_, effect.to, std::move(message));
}

void CoordinatorShell::Do(const ReplyControl& effect) {
  world_->trace.Add(world_->now(), process_->name, "  reply", effect.token,
                    [&] { return effect.status.ToString() + " " + effect.body.ToString(200); });
  if (controls_.erase(effect.token) == 0) world_->Violate("S8: a control call is answered twice");
}

void CoordinatorShell::Do(const PublishEvent& effect) {
  const std::string& name = *effect.event.Find("event")->AsString();
  world_->trace.Add(world_->now(), process_->name, "  publish", 0,
                    [&] { return effect.event.ToString(300); });
  if (name == "epoch.begin" || name == "catch_up.begin") epoch_began_ = world_->now();
  if (name == "catch_up.begin") around_->owner->OnCatchUp();
  if (name == "epoch.begin" || name == "catch_up.begin" || name == "epoch.attempt" ||
      name == "member.joined") {
    CheckStopping(name);
  }
  if (name == "epoch.attempt") ++world_->stats.retries;
  if (name == "epoch.abort" || name == "replica.expelled") CheckBlame(effect.event, "reason");
  if (name == "catch_up.end") {
    CheckBlame(*effect.event.Find("report"), "error");
    const bool caught_up = *effect.event.Find("report")->Find("committed")->AsBool();
    ++(caught_up ? world_->stats.caught_up : world_->stats.not_caught_up);
  }
  if (name != "epoch.end") return;
  CheckBlame(*effect.event.Find("report"), "error");
  last_report_ = *effect.event.Find("report");
  const bool committed = *last_report_->Find("committed")->AsBool();
  ++(committed ? world_->stats.committed : world_->stats.aborted);
  if (committed) around_->owner->OnCommitted(*last_report_);
}

void CoordinatorShell::Do(const WakeAt& effect) {
  const Duration wait = std::max(Duration::zero(), effect.at - world_->now());
  world_->After(process_, wait, [this] { Feed(Tick{}); });
}

void CoordinatorShell::Do(const StopCoordinator&) {
  if (!stopping_since_) world_->Violate("nobody asked the coordinator to stop");
  if (!std::exchange(stopped_, true)) around_->owner->OnCoordinatorStop(process_);
}

// ---- mutations ----------------------------------------------------------------------------------

void CoordinatorShell::PretendLastStaged(const EpochKey& key, const Staged& staged) {
  const auto& epoch = machine_.epoch();
  if (!epoch || epoch->key != key || epoch->phase != EpochPhase::kStreaming) return;
  std::vector<MemberId> missing;
  for (const Participant* p : epoch->Waiting()) {
    if (p->role == Role::kWorker) missing.push_back(p->id);
  }
  if (missing.size() == 1) Feed(FromMember{missing.front(), staged});
}

void CoordinatorShell::Mutate(const CoordinatorEvent& event) {
  const auto* from = std::get_if<FromMember>(&event);
  const auto* staged = from == nullptr ? nullptr : std::get_if<Staged>(&from->message);
  if (world_->mutation() == Mutation::kCommitOneStagedEarly && staged != nullptr) {
    const Staged copy = *staged;
    PretendLastStaged(copy.key, copy);
  }
  const bool early = world_->mutation() == Mutation::kStaleStagedEarly;
  if (!early && world_->mutation() != Mutation::kStaleStagedAccepted) return;
  if (staged != nullptr) earlier_staged_.try_emplace(from->from, *staged);
  PretendStagedAgain(early);
}

// Once in an attempt: when the transfer begins, or when all workers are prepared and the trainer is
// not.
void CoordinatorShell::PretendStagedAgain(bool early) {
  const auto& epoch = machine_.epoch();
  const EpochPhase phase = early ? EpochPhase::kOffers : EpochPhase::kStreaming;
  if (!epoch || epoch->phase != phase || epoch->key == pretended_) return;
  const bool open =
      std::any_of(epoch->participants.begin(), epoch->participants.end(),
                  [](const Participant& p) { return p.role == Role::kWorker && !p.prepared; });
  if (early && (!epoch->ahead || open || epoch->Waiting().empty())) return;
  pretended_ = epoch->key;
  for (auto& [member, old] : earlier_staged_) {
    Staged again = old;
    again.key = pretended_;
    Feed(FromMember{member, again});
  }
}

}  // namespace packcast::sim
