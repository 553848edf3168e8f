#include "actors/epoch.h"

#include <algorithm>
#include <set>

#include "protocol/text.h"

namespace packcast {

std::string_view EpochPhaseName(EpochPhase phase) {
  switch (phase) {
    case EpochPhase::kWaitReplicas: return "wait_replicas";
    case EpochPhase::kOffers: return "offers";
    case EpochPhase::kPreparing: return "prepare";
    case EpochPhase::kJoining: return "rendezvous";
    case EpochPhase::kQuiescing: return "quiesce";
    case EpochPhase::kStreaming: return "transfer";
    case EpochPhase::kCommitting: return "install";
    case EpochPhase::kAborting: return "abort";
  }
  return "unknown";
}

std::string_view CommitPolicyName(CommitPolicy policy) {
  return policy == CommitPolicy::kEach ? "each" : "all";
}

StatusOr<CommitPolicy> CommitPolicyFromName(std::string_view name) {
  for (const CommitPolicy policy : {CommitPolicy::kAll, CommitPolicy::kEach}) {
    if (name == CommitPolicyName(policy)) return policy;
  }
  return InvalidArgument("commit must be \"all\" or \"each\", got \"" + std::string(name) + "\"");
}

std::string_view BelowMinName(BelowMin choice) {
  return choice == BelowMin::kWait ? "wait" : "fail";
}

StatusOr<BelowMin> BelowMinFromName(std::string_view name) {
  for (const BelowMin choice : {BelowMin::kFail, BelowMin::kWait}) {
    if (name == BelowMinName(choice)) return choice;
  }
  return InvalidArgument("below min_replicas an epoch can \"fail\" or \"wait\", not \"" +
                         std::string(name) + "\"");
}

bool IsWire(const Status& status) {
  switch (status.code()) {
    case StatusCode::kUnavailable:
    case StatusCode::kPeerDied:
    case StatusCode::kDeadlineExceeded:
    case StatusCode::kAborted:
    case StatusCode::kCancelled:
    case StatusCode::kStale: return true;
    case StatusCode::kOk:
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kAlreadyExists:
    case StatusCode::kFailedPrecondition:
    case StatusCode::kResourceExhausted:
    case StatusCode::kDataLoss:
    case StatusCode::kUnimplemented:
    case StatusCode::kPermissionDenied:
    case StatusCode::kInternal:
    case StatusCode::kBusy: return false;
  }
  return false;
}

Participant Participant::Anew() const {
  Participant fresh;
  fresh.id = id;
  fresh.role = role;
  fresh.unit = unit;
  fresh.rank_in_unit = rank_in_unit;
  fresh.offer = offer;
  return fresh;
}

void Epoch::Blame(const Status& reason, const std::string& who) {
  failure = Status(reason.code(), WireText(reason.message()));
  culprit = who;
  hearsay = false;
  suspect.reset();
}

Participant* Epoch::Find(const MemberId& id) {
  for (Participant& participant : participants) {
    if (participant.id == id) return &participant;
  }
  return nullptr;
}

const Participant* Epoch::FindName(const std::string& name) const {
  for (const Participant& participant : participants) {
    if (participant.id.name == name) return &participant;
  }
  return nullptr;
}

bool Epoch::parted() const {
  return std::any_of(participants.begin(), participants.end(),
                     [](const Participant& p) { return p.decided.has_value(); });
}

std::vector<const Participant*> Epoch::Waiting() const {
  std::vector<const Participant*> out;
  for (const Participant& participant : participants) {
    if (!participant.answered && !participant.lost) out.push_back(&participant);
  }
  return out;
}

size_t Epoch::LiveReplicas() const {
  std::set<std::string> units;
  for (const Participant& participant : participants) {
    if (participant.role == Role::kWorker && !participant.lost && !participant.excluded) {
      units.insert(participant.unit);
    }
  }
  return units.size();
}

std::optional<Digest> Epoch::SentDigest() const {
  Digest sum;
  for (const Participant& p : participants) {
    if (p.role != Role::kTrainer) continue;
    if (!p.staged) return std::nullopt;
    sum = Combine(sum, p.content_digest);
  }
  return sum;
}

namespace {

Value PhasesValue(const std::vector<Phase>& phases) {
  ValueMap out;
  for (const Phase& phase : phases) {
    const auto same = std::find_if(out.begin(), out.end(),
                                   [&](const auto& entry) { return entry.first == phase.name; });
    double seconds = phase.seconds;
    if (same == out.end()) {
      out.emplace_back(phase.name, seconds);
    } else {  // an attempt earlier in the same epoch
      double before = 0;
      if (same->second.GetDouble(&before)) same->second = before + seconds;
    }
  }
  return out;
}

Value WorkersValue(const Epoch& epoch, bool committed) {
  ValueArray out;
  for (const Participant& p : epoch.participants) {
    if (p.role != Role::kWorker || p.lost || p.excluded) continue;
    ValueMap worker{{"name", p.id.name}, {"replica", p.unit}};
    const bool serves = committed && p.installed;
    worker.emplace_back("version", serves ? Value(ToString(epoch.version())) : Value());
    worker.emplace_back(
        "digest", serves ? Value(ToHex(p.memory_digest.value_or(p.content_digest))) : Value());
    worker.emplace_back("verified", p.memory_digest.has_value());
    worker.emplace_back("seconds", p.staged_seconds);
    worker.emplace_back("pause_seconds", p.pause_seconds);
    worker.emplace_back("phases", PhasesValue(p.phases));
    out.push_back(std::move(worker));
  }
  return out;
}

Value ExpelledValue(const Epoch& epoch) {
  ValueArray out;
  for (const ExpelledUnit& unit : epoch.expelled) {
    out.push_back(
        ValueMap{{"replica", unit.unit}, {"culprit", unit.culprit}, {"reason", unit.reason}});
  }
  return out;
}

void AddFailure(const Epoch& epoch, const Status& status, ValueMap* report) {
  if (!epoch.expelled.empty()) report->emplace_back("expelled", ExpelledValue(epoch));
  const Status& error = status.ok() ? epoch.failure : status;
  if (!error.ok()) report->emplace_back("error", WireText(error.ToString()));
  if (!epoch.culprit.empty()) report->emplace_back("culprit", epoch.culprit);
}

}  // namespace

Value ContractSummary(const Contract& contract) {
  ValueArray flows;
  std::vector<std::string> transports;
  for (const Flow& flow : contract.flows) {
    const auto same = std::find(transports.begin(), transports.end(), flow.transport);
    if (same == transports.end()) transports.push_back(flow.transport);
    ValueArray members;
    for (const FlowMember& member : flow.members) members.push_back(member.member.name);
    ValueMap summary{{"transport", flow.transport},
                     {"members", std::move(members)},
                     {"direct_bytes_min", flow.direct_bytes_min},
                     {"cta_count_max", uint64_t{flow.cta_count_max}}};
    if (!flow.rows.empty()) {
      uint64_t rows = 0;
      for (const RowRange& range : flow.rows) rows += range.end - range.begin;
      summary.emplace_back("rows", rows);
    }
    if (flow.relays) summary.emplace_back("relays", true);
    flows.push_back(std::move(summary));
  }
  std::string names;
  for (const std::string& name : transports) names += (names.empty() ? "" : ", ") + name;
  return ValueMap{
      {"buffer_bytes", contract.buffer_bytes},
      {"buffer_count", contract.buffer_count},
      {"transport", names},
      {"install", std::string(InstallModeName(contract.install))},
      {"integrity", contract.integrity == Integrity::kContentHash},
      {"flows", std::move(flows)},
  };
}

Value EpochReport(const Epoch& epoch, const Status& status, Time now) {
  const bool committed = epoch.decided();
  ValueMap report;
  report.emplace_back("epoch", epoch.key.epoch.value);
  report.emplace_back("version", ToString(epoch.key.version()));
  report.emplace_back("label", epoch.label);
  report.emplace_back("committed", committed);
  report.emplace_back("attempt", epoch.key.attempt.value);
  if (epoch.contract) report.emplace_back("contract", ContractSummary(*epoch.contract));
  report.emplace_back("bytes", epoch.manifest->total_bytes());
  report.emplace_back("tensors", static_cast<uint64_t>(epoch.manifest->size()));
  report.emplace_back("seconds", ToSeconds(now - epoch.began));
  report.emplace_back("phases", PhasesValue(epoch.phase_seconds));
  const Participant* slowest = nullptr;
  for (const Participant& p : epoch.participants) {
    if (p.role == Role::kTrainer && p.rank_in_unit == 0) {
      if (const auto sent = epoch.SentDigest()) report.emplace_back("digest", ToHex(*sent));
      report.emplace_back("trainer",
                          ValueMap{{"name", p.id.name}, {"phases", PhasesValue(p.phases)}});
    }
    if (p.role != Role::kWorker || p.lost || p.excluded) continue;
    if (!p.staged) continue;
    if (slowest == nullptr || p.staged_seconds > slowest->staged_seconds) slowest = &p;
  }
  if (slowest != nullptr) report.emplace_back("slowest", slowest->id.name);
  report.emplace_back("workers", WorkersValue(epoch, committed));
  AddFailure(epoch, status, &report);
  return report;
}

Value CatchUpReport(const Epoch& epoch, const Status& status, Time now) {
  ValueMap report{{"epoch", epoch.key.epoch.value},
                  {"version", ToString(epoch.version())},
                  {"label", epoch.label},
                  {"provider", epoch.catch_up->provider.name},
                  {"committed", epoch.decided()},
                  {"bytes", epoch.manifest->total_bytes()},
                  {"seconds", ToSeconds(now - epoch.began)},
                  {"phases", PhasesValue(epoch.phase_seconds)},
                  {"workers", WorkersValue(epoch, epoch.decided())}};
  if (epoch.contract) report.emplace_back("contract", ContractSummary(*epoch.contract));
  AddFailure(epoch, status, &report);
  return report;
}

}  // namespace packcast
