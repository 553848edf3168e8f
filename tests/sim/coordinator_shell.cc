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
  if (stopped_ || !process_->alive) return;
  if (world_->mutation() != Mutation::kNone && Mutated(event)) return;
  Receive(event);
  if (world_->mutation() != Mutation::kNone) Mutate(event);
}

void CoordinatorShell::Receive(const CoordinatorEvent& event) {
  TraceEvent(event);
  if (std::holds_alternative<MemberLost>(event) && machine_.epoch()) {
    around_->truth->abandoned.insert(machine_.epoch()->key);
  }
  if (const auto* from = std::get_if<FromMember>(&event)) NoteSuperseded(*from);
  CountEarly(event);
  const size_t before = StateOf(machine_.epoch());
  const std::string_view from = StateName(machine_);
  CoordinatorEffects effects = machine_.On(event, world_->LocalNow(process_));
  if (Status status = machine_.CheckInvariants(); !status.ok()) world_->Violate(status.message());
  if (effects.size() > 64 + 16 * (machine_.membership().all().size() + 16)) {
    world_->Violate("S7: too many effects of one step");
  }
  PassFailpoint({"coordinator", from, StateName(machine_)});
  const bool entered = StateOf(machine_.epoch()) != before;
  Carry(&effects, 0, TearOf(effects));
  if (entered && process_->alive) around_->owner->OnEntered(this);
}

std::optional<Tear> CoordinatorShell::TearOf(const CoordinatorEffects& effects) {
  const auto is_commit = [](const CoordinatorEffect& effect) {
    const auto* send = std::get_if<SendToMember>(&effect);
    return send != nullptr && std::holds_alternative<Commit>(*send->message);
  };
  const auto first = std::find_if(effects.begin(), effects.end(), is_commit);
  const auto commits = std::count_if(first, effects.end(), is_commit);
  return around_->owner->TearOf(*this, effects.size(), static_cast<size_t>(first - effects.begin()),
                                static_cast<size_t>(commits));
}

void CoordinatorShell::Carry(CoordinatorEffects* effects, size_t first, std::optional<Tear> tear) {
  for (size_t k = first;; ++k) {
    if (tear && k == tear->after) around_->owner->OnTorn(process_, tear->freezes);
    if (!process_->alive) return;
    if (process_->frozen) {
      process_->unfinished.push_back(
          [this, left = *effects, k]() mutable { Carry(&left, k, std::nullopt); });
      return;
    }
    if (k == effects->size()) break;
    std::visit([this](auto& e) { Do(e); }, (*effects)[k]);
  }
  if (stopped_ && !controls_.empty()) world_->Violate("S8: it ends, and a control call is open");
  Arm();
}

void CoordinatorShell::Arm() {
  const std::optional<Time> next = machine_.NextDeadline();
  if (next == armed_) return;
  armed_ = next;
  if (!next) return;
  // Nobody waits for an answer then, but who is behind.
  if (world_->mutation() == Mutation::kCatchUpForgotten && !machine_.epoch()) return;
  const Duration wait = std::max(Nanoseconds(1), *next - world_->LocalNow(process_));
  world_->Timer(process_, wait, [this, at = *next] {
    if (armed_ != at) return;
    armed_.reset();
    if (world_->LocalNow(process_) < at) return Arm();  // its clock stood still meanwhile
    Feed(Tick{});
    const std::optional<Time> left = machine_.NextDeadline();
    if (left && *left <= at && !stopped_ && process_->alive && !process_->frozen) {
      world_->Violate("L2: a deadline passes and nothing comes of it");
    }
  });
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

std::string CoordinatorShell::DomainOf(const MemberId& member) const {
  if (machine_.commit() == CommitPolicy::kAll) return "";
  if (machine_.epoch() && machine_.epoch()->catch_up) return "";
  return around_->owner->UnitOf(member.name);
}

void CoordinatorShell::CheckDecision(const SendToMember& effect) {
  Truth& truth = *around_->truth;
  const std::string domain = DomainOf(effect.to);
  if (const auto* abort = std::get_if<AbortAttempt>(effect.message.get())) {
    const bool is_decided = truth.decided.contains({abort->key, domain});
    if (is_decided) world_->Violate("S10: given up after the decision");
    truth.given_up.insert({abort->key, domain});
  }
  if (const auto* start = std::get_if<Start>(effect.message.get())) NoteWalkers(start->key);
  if (const auto* drain = std::get_if<Drain>(effect.message.get())) NoteDrain(*drain);
  const auto* commit = std::get_if<Commit>(effect.message.get());
  if (commit == nullptr) return;
  const bool is_given_up = truth.given_up.contains({commit->key, domain});
  if (is_given_up) world_->Violate("S10: decided after it was given up");
  if (!truth.decided.insert({commit->key, domain}).second) return;
  const auto& epoch = machine_.epoch();
  if (!epoch || !epoch->contract) return world_->Violate("S5: decided without an epoch");
  if (!epoch->catch_up) {
    truth.decided_versions.insert(epoch->version());
    truth.label_decided[epoch->label] = world_->now();
  } else if (!truth.decided_versions.contains(epoch->version())) {
    world_->Violate("S5: brings " + ToString(epoch->version()) + ", which nobody has decided on");
  }
  const auto& staged = truth.staged[commit->key];
  for (const Flow& flow : epoch->contract->flows) {
    for (const FlowMember& member : flow.members) {
      const bool votes = member.role == Role::kWorker && DomainOf(member.member) == domain;
      if (votes && !staged.contains(member.member)) {
        world_->Violate("S5: " + KeyText(commit->key) + " is decided before " + member.member.name +
                        " has staged");
      }
    }
  }
}

void CoordinatorShell::NoteSuperseded(const FromMember& event) {
  if (!std::holds_alternative<JoinCluster>(event.message)) return;
  const auto known = machine_.membership().all().find(event.from.name);
  if (known == machine_.membership().all().end() || known->second.id == event.from) return;
  around_->truth->superseded.insert(known->second.id);
  around_->truth->Fault(event.from.name, world_->now());
}

void CoordinatorShell::NoteWalkers(const EpochKey& key) {
  const auto& epoch = machine_.epoch();
  if (!epoch || epoch->key != key || around_->truth->walkers.contains(key)) return;
  std::set<MemberId>& walkers = around_->truth->walkers[key];
  for (const Participant& p : epoch->participants) {
    if (p.role == Role::kTrainer) walkers.insert(p.id);
  }
}

// Whether it knew of all trainer ranks when it said where to stop.
void CoordinatorShell::NoteDrain(const Drain& drain) {
  const auto& epoch = machine_.epoch();
  const bool all = epoch && std::none_of(epoch->participants.begin(), epoch->participants.end(),
                                         [](const Participant& p) {
                                           return p.role == Role::kTrainer && p.lost;
                                         });
  if (all) around_->truth->drained_unaware.insert(drain.key);
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
  PassFailpoint({"coordinator", "send", MessageName(*effect.message)});
  world_->trace.Add(world_->now(), process_->name, "  send", NumberOf(*effect.message),
                    [&] { return effect.to.name + ": " + Describe(*effect.message); });
  CheckDecision(effect);
  CoordinatorMessage message = *effect.message;
  if (world_->mutation() != Mutation::kNone && Forgets(&message)) return;
  around_->network->Send(process_, effect.to, std::move(message));
}

void CoordinatorShell::Do(const ReplyControl& effect) {
  world_->trace.Add(world_->now(), process_->name, "  reply", effect.token,
                    [&] { return effect.status.ToString() + " " + effect.body.ToString(200); });
  if (controls_.erase(effect.token) == 0) world_->Violate("S8: a control call is answered twice");
}

void CoordinatorShell::NoteBegin() {
  epoch_began_ = world_->now();
  members_then_.clear();
  for (const auto& [name, member] : machine_.membership().all()) members_then_.insert(member.id);
}

void CoordinatorShell::Do(const PublishEvent& effect) {
  const std::string& name = *effect.event.Find("event")->AsString();
  world_->trace.Add(world_->now(), process_->name, "  publish", 0,
                    [&] { return effect.event.ToString(300); });
  if (name == "epoch.begin" || name == "catch_up.begin") NoteBegin();
  if (name == "catch_up.begin") around_->owner->OnCatchUp();
  if (name == "epoch.begin" || name == "catch_up.begin" || name == "epoch.attempt" ||
      name == "member.joined") {
    CheckStopping(name);
  }
  if (name == "epoch.attempt") ++world_->stats.retries;
  if (name == "replica.committed") ++world_->stats.decided_alone;
  if (name == "epoch.abort" || name == "replica.expelled") CheckBlame(effect.event, "reason");
  if (name != "epoch.end" && name != "catch_up.end") return;
  const Value& report = *effect.event.Find("report");
  CheckBlame(report, "error");
  const bool committed = *report.Find("committed")->AsBool();
  Stats& stats = world_->stats;
  if (name == "catch_up.end") {
    ++(committed ? stats.caught_up : stats.not_caught_up);
    if (committed) around_->owner->OnCaughtUp(*this, report);
    return;
  }
  last_report_ = report;
  ++(committed ? stats.committed : stats.aborted);
  if (committed) around_->owner->OnCommitted(*this, report);
}

// As in a process: the timer is set by NextDeadline.
void CoordinatorShell::Do(const WakeAt&) {}

void CoordinatorShell::Do(const StopCoordinator&) {
  if (!stopping_since_) world_->Violate("nobody asked the coordinator to stop");
  if (!std::exchange(stopped_, true)) around_->owner->OnCoordinatorStop(process_);
}

}  // namespace packcast::sim
