// The coordinator as a program of its own: start one per cluster, then trainers and workers with
// --coordinator pointing here.
#include <cstdio>

#include <CLI/CLI.hpp>

#include "actors/coordinator.h"
#include "examples/child_process.h"
#include "examples/flag_checks.h"
#include "examples/json.h"
#include "examples/role.h"
#include "protocol/limits.h"

namespace packcast::examples {
namespace {

constexpr uint64_t kAttemptsMax = 1000;

struct Flags {
  RoleFlags role;
  std::string install = "staged";
  CoordinatorOptions options;
  double wait_replicas_seconds = 30;
  std::string below_min = "fail";
  std::string commit = "all";
  bool log_events = false;
};

Status Run(Flags flags) {
  CatchSignals();
  PC_ASSIGN_OR_RETURN(flags.options.policy.install, InstallModeFromName(flags.install));
  PC_ASSIGN_OR_RETURN(flags.options.below_min, BelowMinFromName(flags.below_min));
  PC_ASSIGN_OR_RETURN(flags.options.commit, CommitPolicyFromName(flags.commit));
  flags.options.model = flags.role.model;
  flags.options.deadlines.wait_replicas = FromSeconds(flags.wait_replicas_seconds);
  if (flags.log_events) {
    flags.options.on_event = [](const Value& event) {
      if (TextAt(event, "event") == "progress") return;
      std::fprintf(stderr, "%s\n", ToJson(event).c_str());
    };
  }
  PC_ASSIGN_OR_RETURN(const std::unique_ptr<Runtime> runtime,
                      StartRuntime(flags.role, "coordinator"));
  PC_ASSIGN_OR_RETURN(const std::unique_ptr<Coordinator> coordinator,
                      Coordinator::Start(runtime.get(), flags.options));
  if (flags.role.ready_fd < 0) std::printf("coordinator at %s\n", runtime->endpoint().c_str());
  std::fflush(stdout);
  SayReady(flags.role.ready_fd, runtime->endpoint());
  while (!stop_requested && !coordinator->WaitStopped(Milliseconds(100))) {
  }
  return OkStatus();
}

}  // namespace
}  // namespace packcast::examples

int main(int argc, char** argv) {
  using namespace packcast::examples;
  Flags flags;
  flags.role.bind = "tcp://127.0.0.1:*";
  CLI::App app("decides contracts and commits for one model's weight sync", "coordinator");
  AddRoleFlags(&app, &flags.role, false);
  app.add_option("--endpoint", flags.role.bind, "where to listen; * picks a free port")
      ->envname("PACKCAST_ENDPOINT")
      ->check(WrongPort)
      ->capture_default_str();
  AddPolicyFlags(&app, &flags.options.policy.buffer_bytes, &flags.options.policy.buffer_count,
                 &flags.install);
  app.add_option("--min-replicas", flags.options.min_replicas,
                 "an epoch with fewer complete replicas waits, then fails")
      ->check(NumberFrom(1, packcast::limits::kMembers))
      ->capture_default_str();
  app.add_option("--below-min-replicas", flags.below_min,
                 "an epoch that an attempt has left fewer: fail, or wait for others")
      ->capture_default_str();
  app.add_option("--commit", flags.commit,
                 "all replicas change together, or each as soon as it can: all, each")
      ->capture_default_str();
  app.add_option("--max-attempts", flags.options.max_attempts, "tries per epoch")
      ->check(NumberFrom(1, kAttemptsMax))
      ->capture_default_str();
  app.add_option("--wait-replicas-seconds", flags.wait_replicas_seconds, "for --min-replicas")
      ->check(SecondsFromZero())
      ->capture_default_str();
  app.add_flag("--log-events", flags.log_events, "events as JSON lines on stderr");
  return RoleMain(&app, argc, argv, [&] { return Run(flags); });
}
