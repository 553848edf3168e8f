#include "tests/sim/coordinator_shell.h"

#include <algorithm>
#include <utility>

#include "tests/sim/describe.h"

namespace packcast::sim {

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
  TraceEvent(event);
  CoordinatorEffects effects = machine_.On(event, world_->now());
  if (Status status = machine_.CheckInvariants(); !status.ok()) world_->Violate(status.message());
  if (effects.size() > 64 + 16 * (machine_.membership().all().size() + 16)) {
    world_->Violate("S7: too many effects of one step");
  }
  for (CoordinatorEffect& effect : effects) {
    std::visit([this](auto& e) { Do(e); }, effect);
  }
  if (world_->mutation() != Mutation::kNone) Mutate(event);
}

void CoordinatorShell::Control(const std::string& method, Value body) {
  const uint64_t token = ++last_token_;
  controls_[token] = method;
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
  for (const FlowMember& member : epoch->contract->flows.front().members) {
    if (member.role == Role::kWorker && !staged.contains(member.member)) {
      world_->Violate("S5: " + KeyText(commit->key) + " is decided before " + member.member.name +
                      " has staged");
    }
  }
}

void CoordinatorShell::Do(const SendToMember& effect) {
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
    if (first_blob_.empty()) first_blob_ = rendezvous->blob;
    rendezvous->blob = first_blob_;
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
  if (name == "epoch.attempt") ++world_->stats.retries;
  if (name != "epoch.end") return;
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
  world_->Violate("nobody asked the coordinator to stop");
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
  if (world_->mutation() != Mutation::kStaleStagedAccepted) return;
  if (staged != nullptr) earlier_staged_.try_emplace(from->from, *staged);
  const auto& epoch = machine_.epoch();
  if (!epoch || epoch->phase != EpochPhase::kStreaming || epoch->key == pretended_) return;
  pretended_ = epoch->key;
  for (auto& [member, old] : earlier_staged_) {
    Staged again = old;
    again.key = pretended_;
    Feed(FromMember{member, again});
  }
}

}  // namespace packcast::sim
