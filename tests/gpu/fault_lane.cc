#include "tests/gpu/fault_lane.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "runtime/base/clock.h"

namespace packcast::trial {
namespace {

// A communicator's warm-up has as many broadcasts (runtime/data/cuda/nccl_wire.cc).
constexpr uint64_t kWarmUps = 3;
// A cancellation may come too late.
constexpr int kCancelTries = 3;
// For "any": most of an epoch lies in the first part, and all of it in the whole.
constexpr int kAnyTimeMs = 400;

double Milliseconds(Duration duration) { return 1e3 * ToSeconds(duration); }

std::string Rounded(Duration duration) { return std::to_string(ToMilliseconds(duration)) + " ms"; }

bool Names(const Note& note, std::string_view name) {
  return (IsEvent(note, "member.lost") && TextOf(note.event, "member") == name) ||
         (IsEvent(note, "epoch.abort") && TextOf(note.event, "culprit") == name) ||
         (IsEvent(note, "replica.expelled") && TextOf(note.event, "culprit") == name);
}

}  // namespace

std::string TransportName(bool on_host, bool p2p) {
  if (on_host) return "zmq";
  return p2p ? "nvlink" : "sockets";
}

std::string CellName(const FaultCell& cell) {
  return std::string(RoleName(cell.victim)) + (cell.signal == SIGSTOP ? " stop " : " kill ") +
         cell.point;
}

FaultLane::~FaultLane() { Reset(); }

pid_t FaultLane::survivor(const FaultCell& cell) const {
  const ProcessPtr& process = cell.victim == Role::kTrainer ? worker_ : trainer_;
  return process == nullptr ? -1 : process->pid();
}

void FaultLane::Reset() {
  // All at once, then each is waited for.
  standbys_.push_back(std::move(trainer_));
  standbys_.push_back(std::move(worker_));
  for (ProcessPtr& process : standbys_) {
    if (process != nullptr) process->Kill(SIGKILL);
  }
  standbys_.clear();
  buried_.clear();
  trial_.reset();
}

StatusOr<FaultTimes> FaultLane::Round(const FaultCell& cell, int round) {
  FaultTimes times;
  std::erase_if(buried_, [](const ProcessPtr& process) { return process->is_gone(); });
  const Status status = RunRound(cell, round, &times);
  if (status.ok()) return times;
  const Status detailed(status.code(), status.message() + "\n" + Tails());
  Reset();
  return detailed;
}

std::string FaultLane::Tails() const {
  std::string text;
  const auto add = [&](const char* name, const ProcessPtr& process) {
    if (process == nullptr) return;
    const std::string tail = process->Tail();
    if (!tail.empty()) text += "    " + std::string(name) + " wrote:\n" + tail;
  };
  add("trainer", trainer_);
  add("worker", worker_);
  if (!standbys_.empty()) add("process to come", standbys_.front());
  if (!buried_.empty()) add("the process killed last", buried_.back());
  return text;
}

void FaultLane::Prepare(const FaultCell& cell) {
  Status status = SetUp(cell);
  if (status.ok()) status = EnsureStandbys(cell.victim);
  for (size_t k = 0; status.ok() && k < standbys_.size(); ++k) {
    status = trial_->AwaitReady(standbys_[k].get());
  }
  if (!status.ok()) Reset();
}

Status FaultLane::RunRound(const FaultCell& cell, int round, FaultTimes* times) {
  PC_RETURN_IF_ERROR(SetUp(cell));
  trial_->board().Forget();
  SetDeadline(options_.round_max);
  PC_RETURN_IF_ERROR(EnsureStandbys(cell.victim));
  // The one at hand was joined in the last round.
  if (cell.point == "init" || cell.point == "warmup") PC_RETURN_IF_ERROR(FreshGeneration(cell));
  const pid_t survived = survivor(cell);
  Naming naming;
  uint64_t from = 0;
  PC_RETURN_IF_ERROR(Inject(cell, round, &naming, &from));
  PC_RETURN_IF_ERROR(AwaitNaming(cell, from, &naming));
  PC_RETURN_IF_ERROR(AwaitAbort(cell, from, &naming));
  PC_RETURN_IF_ERROR(Replace(cell.victim));
  Time recovered;
  PC_RETURN_IF_ERROR(Recover(round, &recovered, &times->attempts));
  if (survivor(cell) != survived) return Internal("the survivor is another process");
  times->recover_ms = Milliseconds(recovered - naming.named);
  Judge(naming, times);
  return OkStatus();
}

void FaultLane::Judge(const Naming& naming, FaultTimes* times) const {
  const Duration detect = naming.named - naming.fault;
  const Duration abort = naming.ended - naming.trouble;
  times->detect_ms = Milliseconds(detect);
  times->abort_ms = Milliseconds(abort);
  if (detect > options_.detect_max) times->late = "named only after " + Rounded(detect);
  if (abort > options_.abort_max) {
    times->late += (times->late.empty() ? "" : ", ") + ("aborted only after " + Rounded(abort));
  }
}

// A cluster at work, with one good sync behind it.
Status FaultLane::SetUp(const FaultCell& cell) {
  if (trial_ != nullptr && p2p_ == cell.p2p) return OkStatus();
  Reset();
  p2p_ = cell.p2p;
  TrialOptions options = options_.trial;
  if (!cell.p2p) {
    options.size = options_.socket_size;
    for (const char* off : {"NCCL_P2P_DISABLE=1", "NCCL_SHM_DISABLE=1", "NCCL_IB_DISABLE=1"}) {
      options.environment.emplace_back(off);
    }
  }
  PC_ASSIGN_OR_RETURN(trial_, Trial::Start(std::move(options)));
  // All lanes' processes come up at the same time.
  SetDeadline(3 * options_.round_max);
  for (const Role role : {Role::kTrainer, Role::kWorker}) {
    PC_ASSIGN_OR_RETURN(Slot(role), trial_->StartProcess(role));
  }
  for (const Role role : {Role::kTrainer, Role::kWorker}) {
    PC_RETURN_IF_ERROR(trial_->AwaitReady(Slot(role).get()));
    PC_RETURN_IF_ERROR(trial_->Join(Slot(role).get(), role));
  }
  const StatusOr<Value> report = trial_->Sync(trainer_.get(), ++label_);
  if (!report.ok()) return report.status().WithContext("the first sync");
  PC_ASSIGN_OR_RETURN(const Plan plan, trial_->PlanOf(*report));
  steps_ = plan.steps.size();
  return OkStatus();
}

void FaultLane::SetDeadline(Duration most) {
  trial_->deadline = std::min(Now() + most, options_.end);
}

Status FaultLane::EnsureStandbys(Role role) {
  if (standby_role_ != role) {
    for (ProcessPtr& process : standbys_) {
      process->Kill(SIGKILL);
      buried_.push_back(std::move(process));
    }
    standbys_.clear();
  }
  standby_role_ = role;
  while (standbys_.size() < options_.standbys) {
    PC_ASSIGN_OR_RETURN(ProcessPtr process, trial_->StartProcess(role));
    standbys_.push_back(std::move(process));
  }
  return OkStatus();
}

// So that the next sync makes a communicator, on both sides at the same time: nothing of an old one
// is left to be closed first.
Status FaultLane::FreshGeneration(const FaultCell& cell) {
  // A sink is bound when its worker is new, not with each generation.
  if (options_.trial.on_host) return trial_->Rejoin(Slot(cell.victim).get(), cell.victim);
  for (int k = 0; k < kCancelTries; ++k) {
    PC_ASSIGN_OR_RETURN(const bool cancelled,
                        trial_->CancelledSync(trainer_.get(), ++label_, true));
    if (cancelled) return OkStatus();
  }
  return Internal("no sync could be cancelled in its middle");
}

// Where the victim hurts itself: in NCCL's wire; without NCCL in its own source or sink.
StatusOr<std::string> FaultLane::Failpoints(const FaultCell& cell, int round) {
  const bool early = cell.point == "init";
  const bool warmup = cell.point == "warmup";
  std::string name = "nccl." + cell.point;
  // In the first half of the transfer: with its last step the worker has all bytes, and the epoch
  // is rightly committed, whatever becomes of the trainer.
  uint64_t hits = early ? 1 : warmup ? kWarmUps : std::max<uint64_t>(1, steps_ / 2);
  if (options_.trial.on_host) {
    const bool trainer = cell.victim == Role::kTrainer;
    name =
        trainer ? (early ? "member.open" : "member.next") : (early ? "member.bind" : "member.load");
    if (warmup) hits = 1;
  }
  // The first of them, the last, and then any.
  uint64_t hit = 1 + random_() % hits;
  if (round == 0) hit = 1;
  if (round == 1) hit = hits;
  return name + "=" + (cell.signal == SIGSTOP ? "stop" : "kill") + "@" + std::to_string(hit);
}

Status FaultLane::Inject(const FaultCell& cell, int round, Naming* naming, uint64_t* from) {
  MemberProcess* const victim = Slot(cell.victim).get();
  const bool any = cell.point == "any";
  std::string failpoint;
  if (!any) {
    PC_ASSIGN_OR_RETURN(failpoint, Failpoints(cell, round));
    PC_RETURN_IF_ERROR(trial_->Ask(victim, "arm " + failpoint).status());
  }
  *from = trial_->board().end();
  const int64_t left = std::max<int64_t>(1, ToMilliseconds(trial_->deadline - Now()));
  PC_RETURN_IF_ERROR(
      trainer_->Send("sync " + std::to_string(++label_) + " " + std::to_string(left)));
  if (any) {
    PC_RETURN_IF_ERROR(trial_
                           ->Await("the epoch to begin", *from,
                                   [](const Note& seen) { return IsEvent(seen, "epoch.begin"); })
                           .status());
    // A random time is what is wanted here, nothing is waited for.
    std::this_thread::sleep_for(std::chrono::microseconds(random_() % (1000 * kAnyTimeMs)));
    naming->fault = Now();
    victim->Kill(cell.signal);
    return OkStatus();
  }
  // The victim says so in its log, just before.
  const std::string line = "failpoint " + failpoint.substr(0, failpoint.find('=')) + " acts";
  const int trainer = trainer_->number();
  PC_ASSIGN_OR_RETURN(const Note note,
                      trial_->Await("the fault " + failpoint, *from, [&](const Note& seen) {
                        if (seen.kind == Note::Kind::kReply && seen.process == trainer) return true;
                        return seen.kind == Note::Kind::kLine && seen.process == victim->number() &&
                               seen.text.find(line) != std::string::npos;
                      }));
  if (note.kind == Note::Kind::kReply) {
    return Internal("the sync ended before " + failpoint + ": " + note.text);
  }
  naming->fault = note.at;
  return OkStatus();
}

Status FaultLane::AwaitNaming(const FaultCell& cell, uint64_t from, Naming* naming) {
  const std::string_view victim = NameOf(cell.victim);
  const std::string_view other = NameOf(Other(cell.victim));
  // A first suspicion may name nobody.
  std::optional<Time> trouble;
  const StatusOr<Note> note = trial_->Await(
      std::string(victim) + " to be named", from,
      [&](const Note& seen) {
        if (!trouble && IsEvent(seen, "epoch.abort")) trouble = seen.at;
        return Names(seen, victim) || Names(seen, other);
      },
      Slot(Other(cell.victim)).get());
  PC_RETURN_IF_ERROR(note.status());
  if (!Names(*note, victim)) {
    return Internal("the wrong one is named: " + note->event.ToString(600));
  }
  naming->named = note->at;
  naming->trouble = std::min(trouble.value_or(note->at), note->at);
  return OkStatus();
}

// The coordinator ends the epoch once every rank that is left has said that nothing of the attempt
// is left; one that did not in time, or could not, is lost or expelled.
Status FaultLane::AwaitAbort(const FaultCell& cell, uint64_t from, Naming* naming) {
  const std::string_view other = NameOf(Other(cell.victim));
  MemberProcess* const survivor = Slot(Other(cell.victim)).get();
  PC_ASSIGN_OR_RETURN(
      const Note end,
      trial_->Await(
          "the survivor's abort", from,
          [&](const Note& seen) { return IsEnd(seen, label_) || Names(seen, other); }, survivor));
  if (Names(end, other)) return Internal("the survivor is out: " + end.event.ToString(600));
  const Value& report = *end.event.Find("report");
  const Value* committed = report.Find("committed");
  naming->committed = committed != nullptr && committed->AsBool() && *committed->AsBool();
  naming->ended = naming->committed ? naming->trouble : end.at;
  if (naming->committed && cell.point != "any") return Internal("it was committed all the same");
  if (!naming->committed && TextOf(report, "culprit") != NameOf(cell.victim)) {
    return Internal("the report names \"" + TextOf(report, "culprit") + "\"");
  }
  if (cell.victim == Role::kTrainer) return OkStatus();
  const StatusOr<std::string> answer = trial_->Answer(trainer_.get(), "sync", from);
  if (naming->committed) return OkStatus();
  if (answer.ok()) return Internal("Sync returned OK");
  if (answer.status().message().find(NameOf(cell.victim)) == std::string::npos) {
    return Internal("Sync names nobody: " + answer.status().message());
  }
  return OkStatus();
}

// The stopped one is killed now: its survivor was to do without that.
Status FaultLane::Replace(Role role) {
  ProcessPtr& slot = Slot(role);
  slot->Kill(SIGKILL);
  buried_.push_back(std::move(slot));
  PC_RETURN_IF_ERROR(trial_->AwaitReady(standbys_.front().get()));
  slot = std::move(standbys_.front());
  standbys_.pop_front();
  return trial_->Join(slot.get(), role);
}

Status FaultLane::Recover(int round, Time* recovered, uint64_t* attempts) {
  PC_ASSIGN_OR_RETURN(const Value report, trial_->Sync(trainer_.get(), ++label_));
  *recovered = Now();
  *attempts = NumberOf(report, "attempt");
  if (options_.deep_every <= 0 || round % options_.deep_every != 0) return OkStatus();
  PC_ASSIGN_OR_RETURN(const std::string held, trial_->Ask(worker_.get(), "digest"));
  const ValueArray& workers = *report.Find("workers")->AsArray();
  if (held == TextOf(workers.front(), "digest")) return OkStatus();
  return DataLoss("the worker's memory has " + held + ", its stream had " +
                  TextOf(workers.front(), "digest"));
}

}  // namespace packcast::trial
