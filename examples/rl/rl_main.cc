// An RL training loop in small: a trainer, an actor that collects rollouts, and two kinds of
// engines in processes of their own, all embedding packcast. Each rollout names the version that
// made each of its tokens, and the trainer checks every token against the weights that it had then.
//   bazel run //examples/rl
#include <algorithm>
#include <cstdio>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "examples/child_process.h"
#include "examples/flag_checks.h"
#include "examples/rl/policy.h"
#include "examples/rl/rollouts.h"
#include "examples/role.h"

namespace packcast::examples {
namespace {

constexpr Duration kStart = Seconds(30);
constexpr Duration kEnd = Seconds(10);

struct Flags {
  RoleFlags role;
  uint64_t steps = 20;
  uint64_t batch = 16;
  int poll_engines = 1;
  int callback_engines = 1;
  bool in_place = false;
};

// What the rollouts of a step say.
struct Tally {
  size_t tokens = 0;
  size_t updated_in_flight = 0;  // rollouts with tokens of several versions
  uint64_t oldest = 0;           // versions behind
  std::map<std::string, int> by_engine;
};

class Loop {
 public:
  explicit Loop(const Flags& flags) : flags_(flags) {}

  Status Run();

 private:
  Status StartEngines(const Lifeline& lifeline);
  Status Step(uint64_t label);
  const Layers& Past(uint64_t label);
  Status Count(const Rollout& rollout, uint64_t label, Tally* tally);
  Status End();

  const Flags flags_;
  Layers layers_ = MakeLayers();
  PolicySource source_{&layers_};
  std::map<uint64_t, Layers> past_;  // the weights of some labels, to check with
  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<Trainer> trainer_;
  std::optional<TypedRef<Rollouts>> rollouts_;
  std::vector<ChildProcess> engines_;
  size_t tokens_ = 0;
};

Status Loop::StartEngines(const Lifeline& lifeline) {
  const auto start = [&](const std::string& program, int count) -> Status {
    for (int k = 0; k < count; ++k) {
      const std::string name = program + "-" + std::to_string(k);
      std::vector<std::string> arguments = {
          "--coordinator=" + runtime_->endpoint(), "--name=" + name,
          "--cluster=" + flags_.role.cluster, "--model-name=" + flags_.role.model,
          "--peer-timeout-ms=" + std::to_string(flags_.role.peer_timeout_ms)};
      if (!flags_.role.keys.empty()) arguments.push_back("--keys=" + flags_.role.keys);
      PC_ASSIGN_OR_RETURN(ChildProcess engine,
                          ChildProcess::Spawn(program, std::move(arguments), lifeline));
      engines_.push_back(std::move(engine));
    }
    return OkStatus();
  };
  PC_RETURN_IF_ERROR(start("poll_engine", flags_.poll_engines));
  PC_RETURN_IF_ERROR(start("callback_engine", flags_.callback_engines));
  for (ChildProcess& engine : engines_) PC_RETURN_IF_ERROR(engine.WaitReady(kStart).status());
  return OkStatus();
}

// A real trainer keeps none and needs none; this one can make them again.
const Layers& Loop::Past(uint64_t label) {
  constexpr size_t kMost = 16;
  const auto [entry, is_new] = past_.try_emplace(label);
  if (is_new) Train(label, &(entry->second = MakeLayers()));
  // Not the one just asked for.
  if (past_.size() > kMost) past_.erase(past_.begin() == entry ? std::next(entry) : past_.begin());
  return entry->second;
}

Status Loop::Count(const Rollout& rollout, uint64_t label, Tally* tally) {
  size_t position = 0;
  for (const Span& span : rollout.spans) {
    if (span.label == 0 || span.label > label) {
      return DataLoss(rollout.engine + " names step " + std::to_string(span.label) +
                      ", which was never synced");
    }
    const Layers& layers = Past(span.label);
    for (uint64_t token : span.tokens) {
      if (token == Decode(layers, rollout.prompt, position++)) continue;
      return DataLoss(rollout.engine + ": token " + std::to_string(position - 1) + " of prompt " +
                      std::to_string(rollout.prompt) + " was not made by version " + span.version +
                      ", which it names");
    }
    tally->oldest = std::max(tally->oldest, label - span.label);
  }
  tally->tokens += position;
  tally->updated_in_flight += rollout.spans.size() > 1 ? 1 : 0;
  ++tally->by_engine[rollout.engine];
  return OkStatus();
}

Status Loop::Step(uint64_t label) {
  Train(label, &layers_);
  const SyncResult result = trainer_->Sync(label, Seconds(30));
  PC_RETURN_IF_ERROR(result.status.WithContext("step " + std::to_string(label)));
  PC_ASSIGN_OR_RETURN(const std::vector<Rollout> batch,
                      rollouts_->Call(&Rollouts::Take, flags_.batch).Get(Seconds(30)));
  Tally tally;
  for (const Rollout& rollout : batch) PC_RETURN_IF_ERROR(Count(rollout, label, &tally));
  tokens_ += tally.tokens;
  std::string engines;
  for (const auto& [engine, count] : tally.by_engine) {
    engines += "  " + engine + " " + std::to_string(count);
  }
  const Value* version = result.report.Find("version");
  std::printf("%5llu  %-8s %9zu %19zu %14llu %s\n", static_cast<unsigned long long>(label),
              version != nullptr && version->AsString() ? version->AsString()->c_str() : "?",
              batch.size(), tally.updated_in_flight, static_cast<unsigned long long>(tally.oldest),
              engines.c_str());
  std::fflush(stdout);
  return OkStatus();
}

// Everybody goes home in good order.
Status Loop::End() {
  trainer_->Stop();
  PC_ASSIGN_OR_RETURN(const ActorRef coordinator, runtime_->Find("coordinator"));
  PC_RETURN_IF_ERROR(coordinator.Call("shutdown", ValueMap{}).Get(kEnd).status());
  for (ChildProcess& engine : engines_) {
    if (!engine.WaitEnded(kEnd)) return DeadlineExceeded("an engine does not end");
    if (*engine.Ended() != "exit code 0")
      return PeerDied("an engine ended with " + *engine.Ended());
  }
  coordinator_->WaitStopped(kEnd);
  return OkStatus();
}

Status Loop::Run() {
  PC_ASSIGN_OR_RETURN(runtime_, StartRuntime(flags_.role, "trainer-0"));
  CoordinatorOptions coordinator;
  coordinator.model = flags_.role.model;
  coordinator.policy.install = flags_.in_place ? InstallMode::kInPlace : InstallMode::kStaged;
  coordinator.min_replicas = static_cast<uint32_t>(flags_.poll_engines + flags_.callback_engines);
  PC_ASSIGN_OR_RETURN(coordinator_, Coordinator::Start(runtime_.get(), coordinator));
  PC_ASSIGN_OR_RETURN(rollouts_,
                      NewActor<Rollouts>(*runtime_, 2 * flags_.batch).Name("rollouts").Spawn());
  PC_ASSIGN_OR_RETURN(const Lifeline lifeline, Lifeline::Make());
  PC_RETURN_IF_ERROR(StartEngines(lifeline));
  PC_ASSIGN_OR_RETURN(
      trainer_,
      Trainer::Start(runtime_.get(),
                     {.model = flags_.role.model, .coordinator = runtime_->endpoint()}, &source_));
  CatchSignals();
  std::printf(" step  version   rollouts   updated in flight   behind at most  by engine\n");
  for (uint64_t label = 1; label <= flags_.steps && !stop_requested; ++label) {
    PC_RETURN_IF_ERROR(Step(label));
  }
  PC_RETURN_IF_ERROR(End());
  std::printf("all %zu tokens were made by the version that they name\n", tokens_);
  return OkStatus();
}

}  // namespace
}  // namespace packcast::examples

int main(int argc, char** argv) {
  using namespace packcast::examples;
  Flags flags;
  CLI::App app("a training loop and engines that embed packcast", "rl");
  AddRoleFlags(&app, &flags.role, false);
  flags.role.bind = "tcp://127.0.0.1:*";
  app.add_option("--steps", flags.steps, "training steps")
      ->check(NumberFrom(0, UINT64_MAX))
      ->capture_default_str();
  app.add_option("--batch", flags.batch, "rollouts of a step")
      ->check(NumberFrom(1, 10'000))
      ->capture_default_str();
  app.add_option("--poll-engines", flags.poll_engines, "engines that poll")
      ->check(NumberFrom(0, 64))
      ->capture_default_str();
  app.add_option("--callback-engines", flags.callback_engines, "engines that are called back")
      ->check(NumberFrom(0, 64))
      ->capture_default_str();
  app.add_flag("--in-place", flags.in_place, "weights are written over those that served");
  return RoleMain(&app, argc, argv, [&]() -> packcast::Status {
    if (flags.poll_engines + flags.callback_engines == 0) {
      return packcast::InvalidArgument("there is no engine: give --poll-engines=1");
    }
    return Loop(flags).Run();
  });
}
