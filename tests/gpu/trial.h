#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "actors/coordinator.h"
#include "protocol/contract.h"
#include "protocol/plan.h"
#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/actor/runtime.h"
#include "tests/gpu/member_process.h"
#include "tests/gpu/notes.h"
#include "tests/gpu/trial_weights.h"

namespace packcast::trial {

struct TrialOptions {
  bool on_host = false;   // weights in the host's memory, over ZeroMQ
  std::string library;    // libnccl.so.2; the system's if empty
  std::string transport;  // "": "nccl", on the host "zmq"
  WeightSize size;
  ContractPolicy policy;
  // A member that is silent for this long is lost. Beats come every 50 ms, and are counted as
  // often, so it takes up to 50 ms more.
  int silence_ms = 900;
  bool gentle = false;                   // the worker, WorkerOptions
  std::vector<std::string> environment;  // of the members
};

constexpr std::string_view NameOf(Role role) {
  return role == Role::kTrainer ? "trainer-0" : "worker-0";
}
constexpr Role Other(Role role) { return role == Role::kTrainer ? Role::kWorker : Role::kTrainer; }

// What members of trials set for NCCL, where the user has not.
std::vector<std::string> NcclEnvironment();

// A coordinator in this process, and what a supervisor of one trainer and one worker, in processes
// of their own, needs. All waits end with an error at `deadline`, which says what was waited for.
// One thread's.
class Trial {
 public:
  static StatusOr<std::unique_ptr<Trial>> Start(TrialOptions options);
  ~Trial();

  // A process with this role, which is coming up: it has not joined.
  StatusOr<std::unique_ptr<MemberProcess>> StartProcess(Role role);
  Status AwaitReady(MemberProcess* process);
  // Sends the command and waits for the answer, or the process's end.
  StatusOr<std::string> Ask(MemberProcess* process, const std::string& command);
  // The answer to a command that was sent.
  StatusOr<std::string> Answer(MemberProcess* process, const std::string& verb, uint64_t from);
  // Joins, and waits until the coordinator has let it in.
  Status Join(MemberProcess* process, Role role);
  // Leaves and joins again, in the same process.
  Status Rejoin(MemberProcess* process, Role role);

  // A note from number `from` on. Fails at once when `vital` ends.
  StatusOr<Note> Await(const std::string& what, uint64_t from, const NoteBoard::Wanted& wanted,
                       const MemberProcess* vital = nullptr);
  // A control call to the coordinator.
  StatusOr<Value> Control(const std::string& method, ValueMap arguments);

  // A sync from its call to its report, which must say that it was committed, on the transport that
  // was meant, and that the worker holds what the trainer sent.
  StatusOr<Value> Sync(MemberProcess* trainer, uint64_t label);
  // Begins a sync and cancels it in the middle, which retires the generation. False when it was
  // committed before the cancellation came. With `held` the trainer's source waits in the middle
  // of the weights: then that is rare.
  StatusOr<bool> CancelledSync(MemberProcess* trainer, uint64_t label, bool held);

  Time deadline{};
  NoteBoard& board() { return board_; }
  const TrialOptions& options() const { return options_; }
  // What all members plan under the contract of a report.
  StatusOr<Plan> PlanOf(const Value& report) const;
  StatusOr<PlanOptions> PlanOptionsOf(const Value& report) const;

 private:
  explicit Trial(TrialOptions options) : options_(std::move(options)) {}
  Status CheckReport(const Value& report);

  TrialOptions options_;
  NoteBoard board_;
  std::string last_digest_;
  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<Coordinator> coordinator_;
};

// The event `name`.
bool IsEvent(const Note& note, std::string_view name);
// The end of the epoch with this label.
bool IsEnd(const Note& note, uint64_t label);

}  // namespace packcast::trial
