#include "tests/runtime/sim/ledger.h"

#include <algorithm>
#include <utility>

namespace packcast::rtsim {
namespace {

// How much later than its deadline a call may end: the timers' resolution, and what the executor's
// threads have to do first.
constexpr Duration kGrace = Milliseconds(500);

constexpr const char* kKinds[] = {"tell", "call", "idempotent call"};
constexpr std::string_view kLaneNames[] = {"default", "control", "single", "wide"};
constexpr std::string_view kActNames[] = {"reply", "error",  "throw", "later", "drop", "fail",
                                          "nudge", "bounce", "spawn", "timer", "post", "await"};
static_assert(std::size(kLaneNames) == kLanes && std::size(kActNames) == kActs);

bool IsDead(const Process* process) { return process != nullptr && process->is_dead; }

}  // namespace

std::string_view LaneName(Lane lane) { return kLaneNames[static_cast<size_t>(lane)]; }
std::string_view ActName(Act act) { return kActNames[static_cast<size_t>(act)]; }

Lineage* Ledger::NewLineage(const Process* process, std::string name) {
  Lineage& made = lineages_.emplace_back();
  made.id = static_cast<int>(lineages_.size());
  made.process = process;
  made.name = std::move(name);
  return &made;
}

Lineage* Ledger::LineageOf(const std::string& actor, Incarnation life) const {
  const auto found = lives_.find({actor, life.value});
  return found == lives_.end() ? nullptr : found->second;
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

void Ledger::Killed(const std::string& name, bool is_far) {
  killed_.insert(name);
  if (!is_far) return;
  killed_from_far_.insert(name);
  for (Job& job : jobs_) {
    if (job.to == name) job.local_life = 0;
  }
}

void Ledger::Linked(Lineage* from, Lineage* to) {
  links_.push_back({from, to, from->life()});
  from->is_linked = to->is_linked = true;
}

bool Ledger::MayHaveDied(const Lineage& lineage) const {
  return lineage.may_die || lineage.is_linked || killed_.count(lineage.name) != 0;
}

// --- The callers' side.

void Ledger::Sent(Job* job, Lineage* local) {
  job->sent = kernel_->now();
  job->frozen_before = job->by->frozen_for;
  job->local = local;
  if (job->local != nullptr && job->local->is_alive && !job->local->is_ending) {
    job->local_life = job->local->life();
  }
  kernel_->Note(job->by->name, "send", static_cast<uint64_t>(job->id), [&] {
    return Describe(*job) + " work " + std::to_string(job->work.count() / 1000);
  });
}

void Ledger::HandedOver(Job* job, bool is_done) {
  job->is_accepted = !job->is_refused && !is_done;
  if (job->local == nullptr || !job->is_accepted) return;
  Lineage& local = *job->local;
  const bool is_same_life = local.is_alive && !local.is_ending && !local.is_linked &&
                            job->local_life == local.life() &&
                            killed_from_far_.count(local.name) == 0;
  if (!is_same_life) job->local_life = 0;
  const bool overtakes = is_same_life && local.shares_lane && job->lane == Lane::kControl &&
                         local.most_at_once[0] == 1 && job->where == nullptr;
  if (overtakes) local.overtaking[job->id] = 0;
}

void Ledger::Cancelled(Job* job) {
  job->is_cancelled = true;
  if (job->local != nullptr) job->local->overtaking.erase(job->id);
}

void Ledger::Refused(Job* job, const Status& status) {
  if (IsDead(job->by)) return;
  job->is_refused = true;
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
  if (job->local != nullptr) job->local->overtaking.erase(job->id);
  if (is_second) Violated("a call has two results: " + Describe(*job));
  if (result.ok() && *result != job->id) Violated("it got another's answer: " + Describe(*job));
  if (result.status().code() == StatusCode::kInvalidArgument) {
    Violated("it was taken for malformed: " + Describe(*job));
  }
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

// --- The actors' side.

void Ledger::Started(Lineage* lineage, int life, Incarnation incarnation) {
  if (IsDead(lineage->process)) return;
  kernel_->Note(lineage->process->name, "start", static_cast<uint64_t>(lineage->id),
                [&] { return lineage->name + " life " + std::to_string(life); });
  if (lineage->is_alive) Violated("two lives of " + lineage->name + " at once");
  const size_t slash = lineage->name.find('/');
  const std::string actor = lineage->name.substr(slash + 1);
  if (!lives_.emplace(std::pair(actor, incarnation.value), lineage).second) {
    Violated("two lives of " + lineage->name + " have one incarnation");
  }
  lineage->lives.push_back(incarnation);
  if (life < lineage->life()) {
    Violated("life " + std::to_string(life) + " of " + lineage->name + " comes again");
  }
  lineage->lives.resize(static_cast<size_t>(life), incarnation);  // some never began
  ForgetLife(lineage);
  lineage->is_alive = true;
  lineage->is_ending = false;
  lineage->began = kernel_->now();
}

void Ledger::Failed(Lineage* lineage) {
  lineage->may_die = true;
  lineage->is_ending = true;
  lineage->overtaking.clear();
}

void Ledger::Stopped(Lineage* lineage) {
  if (IsDead(lineage->process)) return;
  kernel_->Note(lineage->process->name, "stop", static_cast<uint64_t>(lineage->id),
                [&] { return lineage->name + " life " + std::to_string(lineage->life()); });
  if (!lineage->is_alive) Violated("a life of " + lineage->name + " ends twice");
  for (const int running : lineage->running) {
    if (running > 0) Violated("OnStop beside a handler of " + lineage->name);
  }
  lineage->is_alive = false;
  lineage->ended = kernel_->now();
  ForgetLife(lineage);
}

void Ledger::ForgetLife(Lineage* lineage) {
  lineage->overtaking.clear();
  lineage->timers.clear();
  lineage->expected = 0;
}

std::vector<int64_t> Ledger::Waiting(const Lineage& lineage) const {
  std::vector<int64_t> waiting;
  for (const Job& job : jobs_) {
    const bool is_here = job.local == &lineage && job.local_life == lineage.life();
    const bool waits = job.is_accepted && job.where == nullptr && !job.result;
    if (is_here && waits && job.lane == Lane::kDefault) waiting.push_back(job.id);
  }
  return waiting;
}

void Ledger::Began(Job* job, Lineage* lineage, Lane lane) {
  if (IsDead(lineage->process)) return;
  kernel_->Note(lineage->process->name, "run", static_cast<uint64_t>(job->id),
                [&] { return Describe(*job) + " in life " + std::to_string(lineage->life()); });
  if (job->where != nullptr) Violated("it ran twice: " + Describe(*job));
  job->where = lineage;
  job->life = lineage->life();
  if (job->result) CheckOutcome(*job);
  CheckPlace(*job, *lineage, lane);
  CheckOrder(*job, *lineage, lane);
  CheckOvertaking(*job, lineage, lane);
  ++lineage->running[static_cast<size_t>(lane)];
  CheckOverlap(*lineage, lane);
}

void Ledger::Ended(Lineage* lineage, Lane lane) {
  if (IsDead(lineage->process)) return;
  --lineage->running[static_cast<size_t>(lane)];
}

void Ledger::CheckPlace(const Job& job, const Lineage& lineage, Lane lane) {
  if (!lineage.is_alive) Violated("outside of a life of its actor: " + Describe(job));
  if (job.is_refused) Violated("a refused tell ran: " + Describe(job));
  if (job.lane != lane) Violated("it ran in another group: " + Describe(job));
  if (job.addressee != nullptr && job.addressee != &lineage) {
    Violated("it ran in another actor of that name: " + Describe(job));
  }
  // Before it was handed over its life could end.
  if (job.is_accepted && job.local_life != 0 && job.local_life != lineage.life()) {
    Violated("queued for life " + std::to_string(job.local_life) + ", it ran in life " +
             std::to_string(lineage.life()) + ": " + Describe(job));
  }
}

void Ledger::CheckOrder(const Job& job, const Lineage& lineage, Lane lane) {
  if (job.kind == Kind::kIdempotent || lineage.most_at_once[static_cast<size_t>(lane)] > 1) return;
  int64_t& last = last_[{job.caller, lineage.id, lane}];
  if (job.id < last) {
    Violated("out of order: " + Describe(job) + " ran after #" + std::to_string(last));
  }
  last = std::max(last, job.id);
}

// Once a control message is in the mailbox, at most one other may begin before it, which had its
// thread already.
void Ledger::CheckOvertaking(const Job& job, Lineage* lineage, Lane lane) {
  lineage->overtaking.erase(job.id);
  if (lane != Lane::kDefault) return;
  for (auto& [id, begun] : lineage->overtaking) {
    const Job& waits = *Find(id);
    const bool is_expired = waits.kind != Kind::kTell && waits.deadline <= kernel_->now();
    if (++begun <= 1 || is_expired) continue;
    Violated(Describe(job) + " runs before #" + std::to_string(id) +
             ", a control message that waits");
  }
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

size_t Ledger::Open(const Process* process) const {
  size_t open = 0;
  for (const Job& job : jobs_) {
    const bool is_asked = process == nullptr || job.by == process;
    if (is_asked && job.kind != Kind::kTell && !job.result && !IsDead(job.by)) ++open;
  }
  return open;
}

// Whether a life of the one goes on that began before the other one died.
bool Ledger::HasOutlived(const Lineage& survivor, const Lineage& other) const {
  const bool has_died = !other.is_alive && !other.may_leave && other.life() > 0 &&
                        !other.process->is_leaving && !other.process->is_dead;
  return survivor.is_alive && has_died && !survivor.process->is_dead &&
         survivor.began < other.ended;
}

std::string Ledger::WhatIsMissing() const {
  constexpr Duration kLate = Seconds(1);
  for (const Lineage& lineage : lineages_) {
    if (IsDead(lineage.process) || !lineage.is_alive) continue;
    for (const auto& [id, when] : lineage.timers) {
      if (when < kernel_->now() - kLate) return "a timer of " + lineage.name + " never came";
    }
    if (lineage.expected > 0) {
      return std::to_string(lineage.expected) + " things that " + lineage.name +
             " has posted or awaited never came";
    }
    const Lineage* const parent = lineage.parent;
    if (parent == nullptr) continue;
    if (!parent->is_alive || parent->life() != lineage.parent_life) {
      return lineage.name + " outlives the life of its parent";
    }
  }
  for (const auto& [from, to, life] : links_) {
    // To another process it may have done its work when that was taken for dead, and is back.
    const bool is_one_process = from->process == to->process;
    const bool is_there = is_one_process || from->life() == life;
    if (is_there && HasOutlived(*from, *to)) {
      return from->name + " outlives " + to->name + ", its link";
    }
    // The other side of a link may be lost with a connection, or be told of it too late.
    if (is_one_process && HasOutlived(*to, *from)) {
      return to->name + " outlives " + from->name + ", which was linked to it";
    }
  }
  // To actors that live, nothing that was accepted is lost.
  for (const Job& job : jobs_) {
    const bool is_kept = job.is_accepted && job.local != nullptr && job.local_life != 0 &&
                         !IsDead(job.by) && job.local->is_alive && !job.local->is_ending &&
                         job.local_life == job.local->life();
    if (is_kept && job.kind == Kind::kTell && job.where == nullptr) {
      return "an accepted tell never ran: " + Describe(job);
    }
  }
  return "";
}

void Ledger::CheckEnd() {
  for (const Job& job : jobs_) {
    if (IsDead(job.by) || job.kind == Kind::kTell) continue;
    if (!job.result) Violated("a call without a result: " + Describe(job));
  }
}

}  // namespace packcast::rtsim
