#include "tests/gpu/trial.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "runtime/base/clock.h"
#include "runtime/data/peer_transport.h"
#include "tests/gpu/member_program.h"

namespace packcast::trial {
namespace {

// Long enough for a cancellation to arrive while the source holds the weights back.
constexpr int kHoldMs = 100;

}  // namespace

bool IsEvent(const Note& note, std::string_view name) {
  return note.kind == Note::Kind::kEvent && TextOf(note.event, "event") == name;
}

bool IsEnd(const Note& note, uint64_t label) {
  if (!IsEvent(note, "epoch.end")) return false;
  const Value* report = note.event.Find("report");
  return report != nullptr && NumberOf(*report, "label") == label;
}

std::vector<std::string> NcclEnvironment() {
  // NVLink multicast has hung on shared machines; all ranks are on this host.
  std::vector<std::string> variables = {"NCCL_NVLS_ENABLE=0"};
  if (std::getenv("NCCL_SOCKET_IFNAME") == nullptr) {
    variables.emplace_back("NCCL_SOCKET_IFNAME=lo");
  }
  if (std::getenv("NCCL_DEBUG") == nullptr) variables.emplace_back("NCCL_DEBUG=WARN");
  return variables;
}

StatusOr<std::unique_ptr<Trial>> Trial::Start(TrialOptions options) {
  std::unique_ptr<Trial> trial(new Trial(std::move(options)));
  const std::string usual = trial->options_.on_host ? "zmq" : "nccl";
  const std::string& named = trial->options_.transport;
  trial->options_.policy.transport = named.empty() ? usual : named;
  // The word is another on every host.
  if (named == "peer") trial->options_.policy.transport = LocalPeerKind().value_or(named);
  Runtime::Options hub;
  hub.name = "coordinator";
  hub.unreachable_after = Milliseconds(trial->options_.silence_ms);
  hub.suspect_after = Milliseconds(trial->options_.silence_ms / 2);
  PC_ASSIGN_OR_RETURN(trial->runtime_, Runtime::Start(hub));
  CoordinatorOptions coordinator;
  coordinator.policy = trial->options_.policy;
  coordinator.on_event = [board = &trial->board_](const Value& event) {
    Note note;
    note.at = Now();
    note.event = event;
    board->Put(std::move(note));
  };
  PC_ASSIGN_OR_RETURN(trial->coordinator_,
                      Coordinator::Start(trial->runtime_.get(), std::move(coordinator)));
  return trial;
}

Trial::~Trial() = default;

StatusOr<std::unique_ptr<MemberProcess>> Trial::StartProcess(Role role) {
  std::vector<std::string> arguments = {
      std::string(kMemberWord) + "=" + std::string(RoleName(role)),
      "--packed-mib=" + std::to_string(options_.size.packed_mib),
      "--direct-mib=" + std::to_string(options_.size.direct_mib),
      "--silence-ms=" + std::to_string(options_.silence_ms)};
  if (options_.gentle) arguments.push_back("--gentle");
  if (!options_.library.empty()) arguments.push_back("--library=" + options_.library);
  if (!options_.on_host) {
    arguments.push_back(std::string("--device=") + (role == Role::kTrainer ? "0" : "1"));
  }
  std::vector<std::string> environment = options_.environment;
  environment.emplace_back("PACKCAST_LOG=info");  // it says when a failpoint acts
  return MemberProcess::Start(&board_, std::move(arguments), std::move(environment));
}

StatusOr<Note> Trial::Await(const std::string& what, uint64_t from, const NoteBoard::Wanted& wanted,
                            const MemberProcess* vital) {
  bool is_end = false;
  const std::optional<Note> note = board_.Wait(from, deadline, [&](const Note& seen) {
    if (wanted(seen)) return true;
    is_end = vital != nullptr && seen.kind == Note::Kind::kGone && seen.process == vital->number();
    return is_end;
  });
  if (!note) return DeadlineExceeded("waited for " + what);
  if (is_end) {
    return PeerDied("a process ended (" + note->text + ") while we waited for " + what);
  }
  return *note;
}

Status Trial::AwaitReady(MemberProcess* process) {
  const uint64_t from = board_.end();
  if (process->is_ready()) return OkStatus();
  if (process->is_gone()) {
    return PeerDied("a process ended before it was ready: " + process->boot_error());
  }
  PC_ASSIGN_OR_RETURN(const std::string ready, Answer(process, "ready", from));
  return OkStatus();
}

StatusOr<std::string> Trial::Answer(MemberProcess* process, const std::string& verb,
                                    uint64_t from) {
  PC_ASSIGN_OR_RETURN(const Note note, Await(
                                           "the answer to " + verb, from,
                                           [&](const Note& seen) {
                                             return seen.kind == Note::Kind::kReply &&
                                                    seen.process == process->number() &&
                                                    seen.text.starts_with(verb + " ");
                                           },
                                           process));
  const std::string good = verb + " ok";
  if (!note.text.starts_with(good)) return Aborted(note.text);
  return note.text.size() > good.size() ? note.text.substr(good.size() + 1) : "";
}

StatusOr<std::string> Trial::Ask(MemberProcess* process, const std::string& command) {
  const uint64_t from = board_.end();
  PC_RETURN_IF_ERROR(process->Send(command));
  return Answer(process, command.substr(0, command.find(' ')), from);
}

Status Trial::Join(MemberProcess* process, Role role) {
  const uint64_t from = board_.end();
  PC_RETURN_IF_ERROR(Ask(process, "join " + runtime_->endpoint()).status());
  const std::string name(NameOf(role));
  return Await(
             name + " to be let in", from,
             [&](const Note& note) {
               return IsEvent(note, "member.joined") && TextOf(note.event, "member") == name;
             },
             process)
      .status();
}

Status Trial::Rejoin(MemberProcess* process, Role role) {
  const uint64_t from = board_.end();
  const std::string name(NameOf(role));
  PC_RETURN_IF_ERROR(Ask(process, "leave").status());
  PC_RETURN_IF_ERROR(Await(name + " to be let go", from, [&](const Note& note) {
                       return IsEvent(note, "member.lost") && TextOf(note.event, "member") == name;
                     }).status());
  return Join(process, role);
}

StatusOr<Value> Trial::Control(const std::string& method, ValueMap arguments) {
  PC_ASSIGN_OR_RETURN(const ActorRef coordinator, runtime_->Find("coordinator"));
  const Duration left = deadline - Now();
  return coordinator.Call(method, std::move(arguments), CallOptions{.deadline = left}).Get(left);
}

Status Trial::CheckReport(const Value& report) {
  const Value* committed = report.Find("committed");
  if (committed == nullptr || committed->AsBool() == nullptr || !*committed->AsBool()) {
    return Internal("the sync's report says that it was not committed");
  }
  const Value* contract = report.Find("contract");
  const std::string transport = contract == nullptr ? "" : TextOf(*contract, "transport");
  if (transport != options_.policy.transport) {
    return Internal("the transport was \"" + transport + "\"");
  }
  const Value* integrity = contract->Find("integrity");
  if (integrity == nullptr || integrity->AsBool() == nullptr || !*integrity->AsBool()) {
    return Internal("integrity was off");
  }
  const std::string sent = TextOf(report, "digest");
  const Value* workers = report.Find("workers");
  const ValueArray* list = workers == nullptr ? nullptr : workers->AsArray();
  if (list == nullptr || list->size() != 1) return Internal("no worker took part to the end");
  const std::string held = TextOf(list->front(), "digest");
  // The trainer's own word may come after the epoch has ended.
  if (held.empty() || (!sent.empty() && sent != held)) {
    return DataLoss("the trainer sent " + sent + ", the worker holds " + held);
  }
  if (held == last_digest_) return DataLoss("the bytes of two labels are the same");
  last_digest_ = held;
  return OkStatus();
}

StatusOr<Value> Trial::Sync(MemberProcess* trainer, uint64_t label) {
  const uint64_t from = board_.end();
  const int64_t left = std::max<int64_t>(1, ToMilliseconds(deadline - Now()));
  PC_RETURN_IF_ERROR(
      Ask(trainer, "sync " + std::to_string(label) + " " + std::to_string(left)).status());
  PC_ASSIGN_OR_RETURN(const Note end, Await("the end of the epoch", from,
                                            [&](const Note& note) { return IsEnd(note, label); }));
  const Value report = *end.event.Find("report");
  PC_RETURN_IF_ERROR(CheckReport(report));
  return report;
}

StatusOr<bool> Trial::CancelledSync(MemberProcess* trainer, uint64_t label, bool held) {
  if (held) {
    const size_t middle = TrialRows(options_.size).size() / 2;
    PC_RETURN_IF_ERROR(Ask(trainer, "arm member.next=delay:" + std::to_string(kHoldMs) + "@" +
                                        std::to_string(middle))
                           .status());
  }
  const uint64_t from = board_.end();
  const int64_t left = std::max<int64_t>(1, ToMilliseconds(deadline - Now()));
  PC_RETURN_IF_ERROR(trainer->Send("sync " + std::to_string(label) + " " + std::to_string(left)));
  PC_RETURN_IF_ERROR(Await("a transfer to begin", from, [](const Note& note) {
                       return IsEvent(note, "epoch.transfer");
                     }).status());
  (void)Control("cancel", {});  // it may be too late, which the end tells
  PC_ASSIGN_OR_RETURN(const Note end,
                      Await(
                          "the end of a cancelled epoch", from,
                          [&](const Note& note) { return IsEnd(note, label); }, trainer));
  const StatusOr<std::string> answer = Answer(trainer, "sync", from);
  if (held) PC_RETURN_IF_ERROR(Ask(trainer, "arm").status());
  const Value* committed = end.event.Find("report")->Find("committed");
  if (committed != nullptr && committed->AsBool() != nullptr && *committed->AsBool()) {
    PC_RETURN_IF_ERROR(answer.status());
    PC_RETURN_IF_ERROR(CheckReport(*end.event.Find("report")));
    return false;
  }
  if (answer.ok()) return Internal("a cancelled sync ended well");
  if (answer.status().message().find("cancelled") == std::string::npos) {
    return answer.status().WithContext("a cancelled sync");
  }
  return true;
}

StatusOr<PlanOptions> Trial::PlanOptionsOf(const Value& report) const {
  PC_ASSIGN_OR_RETURN(const Manifest manifest, Manifest::Make(TrialRows(options_.size)));
  const Value* agreed = report.Find("contract");
  if (agreed == nullptr) return Internal("a report without a contract");
  Contract contract;
  contract.buffer_bytes = NumberOf(*agreed, "buffer_bytes");
  contract.buffer_count = static_cast<uint32_t>(NumberOf(*agreed, "buffer_count"));
  const Value* flows = agreed->Find("flows");
  if (flows == nullptr || flows->AsArray() == nullptr || flows->AsArray()->size() != 1) {
    return Internal("a report of not one flow");
  }
  Flow flow;
  flow.direct_bytes_min = NumberOf(flows->AsArray()->front(), "direct_bytes_min");
  return packcast::PlanOptionsOf(contract, flow, manifest);
}

StatusOr<Plan> Trial::PlanOf(const Value& report) const {
  PC_ASSIGN_OR_RETURN(const Manifest manifest, Manifest::Make(TrialRows(options_.size)));
  PC_ASSIGN_OR_RETURN(const PlanOptions plan_options, PlanOptionsOf(report));
  return packcast::MakePlan(manifest, plan_options);
}

}  // namespace packcast::trial
