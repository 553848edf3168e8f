// Calls from scripts and the launcher: docs/protocol.md, "Control".
#include <algorithm>

#include "actors/coordinator_machine.h"

namespace packcast {
namespace {

constexpr size_t kWaitersMax = 64;
constexpr size_t kOpenSyncs = 2;  // one runs, one waits
constexpr Duration kSyncWaitMax = Seconds(3600);
constexpr Duration kShutdownGrace = Seconds(5);

StatusOr<std::optional<uint64_t>> OptionalUint(const Value& body, std::string_view key) {
  const Value* value = body.Find(key);
  if (value == nullptr || value->is_nil()) return std::optional<uint64_t>();
  uint64_t number = 0;
  if (!value->GetUint(&number)) {
    return InvalidArgument(std::string(key) + " must be an unsigned integer, got " +
                           value->ToString(60));
  }
  return std::optional<uint64_t>(number);
}

StatusOr<std::string> RequiredString(const Value& body, std::string_view key) {
  const Value* value = body.Find(key);
  if (value == nullptr || value->AsString() == nullptr) {
    return InvalidArgument("\"" + std::string(key) + "\" is needed, as a string");
  }
  return *value->AsString();
}

}  // namespace

void CoordinatorMachine::Handle(const ControlCall& call) {
  StatusOr<std::optional<Value>> answer = Control(call);
  if (!answer.ok()) {
    Emit(ReplyControl{call.token, answer.status(), {}});
  } else if (answer->has_value()) {
    Emit(ReplyControl{call.token, OkStatus(), std::move(**answer)});
  }
}

// Nothing in the optional: the answer comes later.
StatusOr<std::optional<Value>> CoordinatorMachine::Control(const ControlCall& call) {
  if (call.method == "status") return std::optional(StatusValue());
  if (call.method == "members") return std::optional(MembersValue());
  if (call.method == "sync") return ControlSync(call);
  if (call.method == "cancel") return ControlCancel(call);
  if (call.method == "limits") return ControlLimits(call);
  if (call.method == "contract") {
    if (!epoch_ || !epoch_->contract) {
      const Value* last = reports_.empty() ? nullptr : reports_.back().Find("contract");
      return std::optional(last != nullptr ? *last : Value());
    }
    return std::optional(ContractSummary(*epoch_->contract));
  }
  if (call.method == "reports") {
    PC_ASSIGN_OR_RETURN(const auto count, OptionalUint(call.body, "count"));
    const size_t n = std::min<size_t>(count.value_or(10), reports_.size());
    return std::optional<Value>(
        ValueArray(reports_.end() - static_cast<ptrdiff_t>(n), reports_.end()));
  }
  if (call.method == "drain" || call.method == "readmit") {
    PC_ASSIGN_OR_RETURN(const std::string replica, RequiredString(call.body, "replica"));
    const bool drain = call.method == "drain";
    PC_RETURN_IF_ERROR(drain ? membership_.Drain(replica) : membership_.Readmit(replica));
    Publish(drain ? "replica.drained" : "replica.readmitted", {{"replica", replica}});
    if (!drain && epoch_ && epoch_->phase == EpochPhase::kWaitReplicas) Advance();
    return std::optional<Value>(ValueMap{{"replica", replica}, {"drained", drain}});
  }
  if (call.method == "shutdown") {
    // From here on no epoch begins and nobody joins. Asking twice does not put the end off.
    if (!stop_at_) stop_at_ = now_ + kShutdownGrace;
    const Status why = Cancelled("the cluster shuts down");
    if (epoch_ && !epoch_->decided()) BeginAbort(why, "", true);
    for (const PendingSync& sync : std::exchange(pending_, {})) AnswerSync(sync, why, {});
    FailWaiters(why);
    SendToAll(Shutdown{"asked by a control call"});
    Emit(WakeAt{*stop_at_});
    if (membership_.all().empty()) Stop();
    return std::optional<Value>(ValueMap{{"stopping", true}});
  }
  return Unimplemented("unknown method \"" + call.method +
                       "\"; known: status, members, contract, reports, sync, cancel, limits, "
                       "drain, readmit, subscribe, shutdown");
}

StatusOr<std::optional<Value>> CoordinatorMachine::ControlSync(const ControlCall& call) {
  PC_ASSIGN_OR_RETURN(const auto label, OptionalUint(call.body, "label"));
  if (stop_at_) return Cancelled("the cluster shuts down");
  const std::vector<std::string> units = membership_.CompleteUnits(Role::kTrainer);
  if (units.empty()) {
    return FailedPrecondition("no complete trainer is registered; start one before a sync");
  }
  if (waiters_.size() >= kWaitersMax) return Busy("too many scripts wait for syncs");
  const std::set<uint64_t> open = OpenLabels();
  uint64_t wanted = label.value_or(last_label_ + 1);
  while (!label && open.contains(wanted)) ++wanted;  // another sync than those that are open
  if (!open.contains(wanted)) {
    if (open.size() >= kOpenSyncs) return Busy("one sync runs and one is queued, or asked for");
    for (const Member* rank : membership_.Ranks(Role::kTrainer, units.front())) {
      Send(rank->id, SyncWanted{config_.model, wanted});
    }
  }
  if (!label) last_label_ = wanted;
  waiters_.push_back({call.token, wanted, now_ + kSyncWaitMax});
  Emit(WakeAt{waiters_.back().deadline});
  return std::optional<Value>();
}

// Labels of syncs that run, are queued, or were asked for and not called yet.
std::set<uint64_t> CoordinatorMachine::OpenLabels() const {
  std::set<uint64_t> open;
  if (epoch_ && !epoch_->catch_up) open.insert(epoch_->label);
  for (const PendingSync& sync : pending_) open.insert(sync.label);
  for (const SyncWaiter& waiter : waiters_) open.insert(waiter.label);
  return open;
}

StatusOr<std::optional<Value>> CoordinatorMachine::ControlCancel(const ControlCall& call) {
  PC_ASSIGN_OR_RETURN(const auto label, OptionalUint(call.body, "label"));
  if (epoch_ && Runs(label.value_or(epoch_->label))) {
    if (epoch_->decided()) {
      return FailedPrecondition("sync(" + std::to_string(epoch_->label) +
                                ") is committed and cannot be cancelled");
    }
    const uint64_t cancelled = epoch_->label;
    BeginAbort(Cancelled("cancelled by a control call"), "", true);
    return std::optional<Value>(ValueMap{{"label", cancelled}});
  }
  for (size_t k = 0; k < pending_.size(); ++k) {
    if (label && *label != pending_[k].label) continue;
    const PendingSync sync = pending_[k];
    pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(k));
    AnswerSync(sync, Cancelled("cancelled by a control call"), {});
    return std::optional<Value>(ValueMap{{"label", sync.label}});
  }
  for (const SyncWaiter& waiter : waiters_) {
    if (label && *label != waiter.label) continue;
    const uint64_t cancelled = waiter.label;  // asked for, and the trainer has not called it yet
    AnswerSync(PendingSync{cancelled, {}, {}, {}}, Cancelled("cancelled by a control call"), {});
    return std::optional<Value>(ValueMap{{"label", cancelled}});
  }
  return NotFound("no such sync runs, is queued or was asked for");
}

StatusOr<std::optional<Value>> CoordinatorMachine::ControlLimits(const ControlCall& call) {
  const Value before = LimitsValue();
  ContractPolicy policy = config_.policy;
  PC_ASSIGN_OR_RETURN(const auto bytes, OptionalUint(call.body, "buffer_bytes"));
  PC_ASSIGN_OR_RETURN(const auto count, OptionalUint(call.body, "buffer_count"));
  PC_ASSIGN_OR_RETURN(const auto replicas, OptionalUint(call.body, "min_replicas"));
  BelowMin below_min = config_.below_min;
  if (const Value* below = call.body.Find("below_min"); below != nullptr) {
    if (below->AsString() == nullptr) return InvalidArgument("below_min must be a string");
    PC_ASSIGN_OR_RETURN(below_min, BelowMinFromName(*below->AsString()));
  }
  CommitPolicy commit = config_.commit;
  if (const Value* name = call.body.Find("commit"); name != nullptr) {
    if (name->AsString() == nullptr) return InvalidArgument("commit must be a string");
    PC_ASSIGN_OR_RETURN(commit, CommitPolicyFromName(*name->AsString()));
  }
  if (bytes) policy.buffer_bytes = *bytes;
  if (policy.buffer_bytes < limits::kBufferBytesMin ||
      policy.buffer_bytes > limits::kBufferBytesMax) {
    return InvalidArgument("buffer_bytes must be in [256, 64 GiB], got " +
                           std::to_string(policy.buffer_bytes));
  }
  if (count && (*count < limits::kBufferCountMin || *count > limits::kBufferCountMax)) {
    return InvalidArgument("buffer_count must be in [1, 64], got " + std::to_string(*count));
  }
  if (replicas && (*replicas == 0 || *replicas > limits::kMembers)) {
    return InvalidArgument("min_replicas must be in [1, 8192], got " + std::to_string(*replicas));
  }
  if (const Value* install = call.body.Find("install"); install != nullptr) {
    if (install->AsString() == nullptr) return InvalidArgument("install must be a string");
    PC_ASSIGN_OR_RETURN(policy.install, InstallModeFromName(*install->AsString()));
  }
  if (count) policy.buffer_count = static_cast<uint32_t>(*count);
  if (replicas) config_.min_replicas = static_cast<uint32_t>(*replicas);
  config_.below_min = below_min;
  config_.commit = commit;
  config_.policy = policy;
  const Value now = LimitsValue();
  if (now == before) return std::optional(now);  // somebody who looks
  settled_.reset();
  if (epoch_) epoch_->offers_changed = true;  // what it agrees on may not be agreed on again
  Publish("limits", *now.AsMap());
  return std::optional(now);
}

Value CoordinatorMachine::LimitsValue() const {
  return ValueMap{{"buffer_bytes", config_.policy.buffer_bytes},
                  {"buffer_count", config_.policy.buffer_count},
                  {"install", std::string(InstallModeName(config_.policy.install))},
                  {"min_replicas", config_.min_replicas},
                  {"below_min", std::string(BelowMinName(config_.below_min))},
                  {"commit", std::string(CommitPolicyName(config_.commit))}};
}

Value CoordinatorMachine::StatusValue() const {
  const size_t trainers = membership_.CompleteUnits(Role::kTrainer).size();
  ValueMap status{
      {"model", config_.model},
      {"term", term_.counter},
      {"state", std::string(epoch_ ? EpochPhaseName(epoch_->phase) : "idle")},
      {"members", static_cast<uint64_t>(membership_.all().size())},
      {"trainers", static_cast<uint64_t>(trainers)},
      {"replicas", static_cast<uint64_t>(membership_.CompleteUnits(Role::kWorker).size())},
      {"version", last_committed_ ? Value(ToString(*last_committed_)) : Value()},
      {"queued", static_cast<uint64_t>(pending_.size())}};
  if (epoch_) {
    status.emplace_back("epoch", epoch_->key.epoch.value);
    status.emplace_back("attempt", epoch_->key.attempt.value);
    if (epoch_->catch_up) {
      status.emplace_back("catch_up", ValueMap{{"version", ToString(epoch_->catch_up->version)},
                                               {"provider", epoch_->catch_up->provider.name}});
    } else {
      status.emplace_back("label", epoch_->label);
    }
    ValueArray waiting;
    for (const Participant* p : epoch_->Waiting()) waiting.push_back(p->id.name);
    status.emplace_back("waiting_for", std::move(waiting));
  }
  ValueArray behind;
  const Standing standing = StandingOf(membership_);
  for (const auto& [replica, lacking] : standing.behind) {
    if (StandingOfReplica(standing, replica) != "current") behind.push_back(replica);
  }
  status.emplace_back("behind", std::move(behind));
  return status;
}

// As people and scripts read it.
std::string CoordinatorMachine::StandingOfReplica(const Standing& standing,
                                                  const std::string& replica) const {
  if (membership_.drained().contains(replica)) return "drained";
  if (!standing.replicas.contains(replica)) return "incomplete";
  if (!standing.behind.contains(replica)) return "current";
  if (!epoch_) return "behind";
  for (const Participant& p : epoch_->participants) {
    if (p.role != Role::kWorker || p.unit != replica || p.lost || p.excluded) continue;
    if (epoch_->catch_up) return "catching up";
    if (epoch_->decided() || p.decided) return "current";  // it installs
  }
  return "behind";
}

Value CoordinatorMachine::MembersValue() const {
  ValueArray out;
  const Standing standing = StandingOf(membership_);
  for (const auto& [name, member] : membership_.all()) {
    ValueMap value{{"name", name},
                   {"role", std::string(RoleName(member.role))},
                   {"unit", member.unit},
                   {"rank", member.rank_in_unit},
                   {"unit_size", member.unit_size},
                   {"version", ToString(member.serving)},
                   {"dirty", member.dirty},
                   {"installs", member.install_count},
                   {"drained", membership_.drained().contains(member.unit)},
                   {"offer", OfferToValue(member.offer)}};
    if (member.busy_until > now_) {
      value.emplace_back("busy_ms", BusyMs(member));
      value.emplace_back("busy_why", member.busy_why);
    }
    if (member.role == Role::kWorker) {
      value.emplace_back("standing", StandingOfReplica(standing, member.unit));
      const auto behind = behind_.find(member.unit);
      if (behind != behind_.end() && !behind->second.why.empty()) {
        value.emplace_back("catch_up_error", behind->second.why);
      }
    }
    out.push_back(std::move(value));
  }
  return out;
}

}  // namespace packcast
