#include "tests/runtime/sim/ledger.h"

#include <utility>

namespace packcast::rtsim {
namespace {

// How much later than its deadline a call may end: the timers' resolution, and what the executor's
// threads have to do first.
constexpr Duration kGrace = Milliseconds(50);

bool IsDead(const Process* process) { return process != nullptr && process->is_dead; }

}  // namespace

std::string_view LaneName(Lane lane) {
  switch (lane) {
    case Lane::kDefault: return "default";
    case Lane::kControl: return "control";
    case Lane::kSingle: return "single";
    case Lane::kWide: return "wide";
  }
  return "?";
}

std::string_view ActName(Act act) {
  switch (act) {
    case Act::kReply: return "reply";
    case Act::kError: return "error";
    case Act::kThrow: return "throw";
    case Act::kLater: return "later";
    case Act::kDrop: return "drop";
    case Act::kFail: return "fail";
    case Act::kNudge: return "nudge";
  }
  return "?";
}

Lineage* Ledger::NewLineage(const Process* process, std::string name) {
  Lineage& made = lineages_.emplace_back();
  made.id = static_cast<int>(lineages_.size());
  made.process = process;
  made.name = std::move(name);
  return &made;
}

Job* Ledger::NewJob(int caller, std::string to) {
  Job& job = jobs_.emplace_back();
  job.id = static_cast<int64_t>(jobs_.size());
  job.caller = caller;
  job.by = kernel_->process();
  job.to = std::move(to);
  return &job;
}

Job* Ledger::Find(int64_t id) { return &jobs_.at(static_cast<size_t>(id - 1)); }

std::string Ledger::Describe(const Job& job) const {
  static constexpr const char* kKinds[] = {"tell", "call", "idempotent call"};
  std::string text = "#" + std::to_string(job.id) + ", a " + kKinds[static_cast<int>(job.kind)] +
                     " of caller " + std::to_string(job.caller) + " to " + job.to + " (" +
                     std::string(LaneName(job.lane)) + ", " + std::string(ActName(job.act)) + ")";
  if (job.result) text += ", answered " + job.result->ToString();
  return text;
}

void Ledger::Violated(const std::string& what) {
  kernel_->Note("ledger", "VIOLATION", 0, [&] { return what; });
  if (violation_.empty()) violation_ = what;
}

void Ledger::Sent(Job* job) {
  job->sent = kernel_->now();
  job->frozen_before = job->by->frozen_for;
  kernel_->Note(job->by->name, "send", static_cast<uint64_t>(job->id), [&] {
    return Describe(*job) + " work " + std::to_string(job->work.count() / 1000);
  });
}

void Ledger::Told(Job* job, const Status& status) {
  if (IsDead(job->by)) return;
  job->is_refused = !status.ok();
  if (status.ok()) return;
  kernel_->Note(job->by->name, "refused", static_cast<uint64_t>(job->id),
                [&] { return Describe(*job) + ": " + status.ToString(); });
  if (job->where != nullptr) Violated("a refused tell ran: " + Describe(*job));
}

void Ledger::Resolved(Job* job, const StatusOr<int64_t>& result) {
  if (IsDead(job->by)) return;
  const bool is_second = job->result.has_value();
  job->result = result.status();
  kernel_->Note(job->by->name, "result", static_cast<uint64_t>(job->id),
                [&] { return Describe(*job); });
  if (is_second) Violated("a call has two results: " + Describe(*job));
  if (result.ok() && *result != job->id) Violated("it got another's answer: " + Describe(*job));
  // Who is frozen learns it late.
  const Duration frozen = job->by->frozen_for - job->frozen_before;
  const Duration late = kernel_->now() - job->deadline - frozen;
  if (late > kGrace) {
    Violated("it ended " + std::to_string(ToMilliseconds(late)) +
             " ms after its deadline: " + Describe(*job));
  }
  CheckOutcome(*job);
}

void Ledger::CheckOutcome(const Job& job) {
  const bool has_run = job.where != nullptr;
  if (job.result->ok()) {
    if (!has_run) Violated("it did not run, but was answered: " + Describe(job));
    return;
  }
  switch (job.result->outcome()) {
    case Outcome::kUnknown: return Violated("a failure without an outcome: " + Describe(job));
    case Outcome::kMaybeExecuted: return;
    case Outcome::kNotExecuted:
      if (has_run) Violated("it ran, and is said not to have: " + Describe(job));
      return;
    case Outcome::kExecuted:
      if (!has_run) Violated("it did not run, and is said to have: " + Describe(job));
      return;
  }
}

void Ledger::Started(Lineage* lineage, int life) {
  if (IsDead(lineage->process)) return;
  kernel_->Note(lineage->process->name, "start", static_cast<uint64_t>(lineage->id),
                [&] { return lineage->name + " life " + std::to_string(life); });
  if (lineage->is_alive) Violated("two lives of " + lineage->name + " at once");
  if (life != lineage->life + 1) {
    Violated("life " + std::to_string(life) + " of " + lineage->name + " follows life " +
             std::to_string(lineage->life));
  }
  lineage->life = life;
  lineage->is_alive = true;
}

void Ledger::Stopped(Lineage* lineage) {
  if (IsDead(lineage->process)) return;
  kernel_->Note(lineage->process->name, "stop", static_cast<uint64_t>(lineage->id),
                [&] { return lineage->name + " life " + std::to_string(lineage->life); });
  if (!lineage->is_alive) Violated("a life of " + lineage->name + " ends twice");
  for (const int running : lineage->running) {
    if (running > 0) Violated("OnStop beside a handler of " + lineage->name);
  }
  lineage->is_alive = false;
}

void Ledger::Began(Job* job, Lineage* lineage, Lane lane) {
  if (IsDead(lineage->process)) return;
  kernel_->Note(lineage->process->name, "run", static_cast<uint64_t>(job->id),
                [&] { return Describe(*job) + " in life " + std::to_string(lineage->life); });
  if (!lineage->is_alive) Violated("outside of a life of its actor: " + Describe(*job));
  if (job->where != nullptr) Violated("it ran twice: " + Describe(*job));
  if (job->is_refused) Violated("a refused tell ran: " + Describe(*job));
  if (job->lane != lane) Violated("it ran in another group: " + Describe(*job));
  job->where = lineage;
  job->life = lineage->life;
  job->began = kernel_->now();
  if (job->result) CheckOutcome(*job);
  CheckOrder(*job, *lineage, lane);
  ++lineage->running[static_cast<size_t>(lane)];
  CheckOverlap(*lineage, lane);
}

void Ledger::Ended(Job*, Lineage* lineage, Lane lane) {
  if (IsDead(lineage->process)) return;
  --lineage->running[static_cast<size_t>(lane)];
}

void Ledger::CheckOrder(const Job& job, const Lineage& lineage, Lane lane) {
  if (job.kind == Kind::kIdempotent || lineage.most_at_once[static_cast<size_t>(lane)] > 1) return;
  int64_t& last = last_[{job.caller, lineage.id, lane}];
  if (job.id < last) {
    Violated("out of order: " + Describe(job) + " ran after #" + std::to_string(last));
  }
  last = std::max(last, job.id);
}

void Ledger::CheckOverlap(const Lineage& lineage, Lane lane) {
  const auto running = [&](Lane of) { return lineage.running[static_cast<size_t>(of)]; };
  int at_once = running(lane);
  if (lineage.shares_lane && (lane == Lane::kDefault || lane == Lane::kControl)) {
    at_once = running(Lane::kDefault) + running(Lane::kControl);
  }
  if (at_once <= lineage.most_at_once[static_cast<size_t>(lane)]) return;
  Violated(std::to_string(at_once) + " handlers of the group \"" + std::string(LaneName(lane)) +
           "\" of " + lineage.name + " at once");
}

size_t Ledger::Open() const {
  size_t open = 0;
  for (const Job& job : jobs_) {
    const bool is_call = job.kind != Kind::kTell;
    if (is_call && !job.result && !IsDead(job.by)) ++open;
  }
  return open;
}

void Ledger::CheckEnd() {
  for (const Job& job : jobs_) {
    if (IsDead(job.by) || job.kind == Kind::kTell) continue;
    if (!job.result) Violated("a call without a result: " + Describe(job));
  }
}

}  // namespace packcast::rtsim
