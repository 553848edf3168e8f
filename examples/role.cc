#include "examples/role.h"

#include <csignal>
#include <cstdio>

#include <CLI/CLI.hpp>

#include "examples/flag_checks.h"
#include "examples/lifeline.h"
#include "runtime/actor/keys.h"

namespace packcast::examples {
namespace {

// Half of it, after which a peer is suspected, must be longer than the 50 ms between two beats.
constexpr uint64_t kPeerTimeoutMsMin = 102;
constexpr uint64_t kPeerTimeoutMsMax = 3'600'000;
constexpr uint64_t kDescriptorMax = 1'000'000;

}  // namespace

std::atomic<bool> stop_requested{false};

void CatchSignals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { stop_requested = true; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

Status CheckBulkHost(const RoleFlags& flags, const std::string& host) {
  if (host == "*" || host == "0.0.0.0") {
    return InvalidArgument("--bulk-host " + host +
                           " is no address that workers can connect to: give one of this host's, "
                           "or an interface");
  }
  const bool is_local = host.starts_with("127.") || host == "lo" || host == "localhost";
  if (is_local || !flags.keys.empty() || flags.insecure) return OkStatus();
  return PermissionDenied("--bulk-host " + host +
                          " lets other machines in: give CURVE keys (--keys), or allow it with "
                          "--insecure, or leave it at 127.0.0.1");
}

void AddRoleFlags(CLI::App* app, RoleFlags* flags, bool member) {
  app->add_option("--model-name", flags->model, "the model that is synced")
      ->envname("PACKCAST_MODEL")
      ->capture_default_str();
  app->add_option("--cluster", flags->cluster, "clusters of another name are refused")
      ->envname("PACKCAST_CLUSTER")
      ->capture_default_str();
  app->add_flag("--insecure", flags->insecure, "allow addresses beyond loopback without keys");
  app->add_option("--keys", flags->keys, "file with the CURVE keys of this process (//tools/keys)")
      ->envname("PACKCAST_KEYS");
  app->add_option("--peer-timeout-ms", flags->peer_timeout_ms,
                  "a process that is silent for this long is not reachable")
      ->check(NumberFrom(kPeerTimeoutMsMin, kPeerTimeoutMsMax))
      ->capture_default_str();
  app->add_option("--ready-fd", flags->ready_fd, "where to say that we are ready")
      ->check(NumberFrom(0, kDescriptorMax))
      ->group("");
  if (!member) return;
  app->add_flag("--shm", flags->shared_memory,
                "shared memory, where all members say so and are on one host")
      ->envname("PACKCAST_SHM");
  app->add_option("--coordinator", flags->coordinator, "its address, tcp://host:port")
      ->envname("PACKCAST_COORDINATOR")
      ->check(WrongPort)
      ->required();
  app->add_option("--name", flags->name, "unique in the cluster, stable over restarts")
      ->envname("PACKCAST_NAME");
}

StatusOr<std::unique_ptr<Runtime>> StartRuntime(const RoleFlags& flags, const std::string& name) {
  Runtime::Options options;
  options.name = name;
  options.cluster = flags.cluster;
  options.bind = flags.bind;
  options.insecure = flags.insecure;
  if (!flags.keys.empty()) {
    PC_ASSIGN_OR_RETURN(options.keys, LoadKeys(flags.keys));
  }
  options.unreachable_after = Milliseconds(flags.peer_timeout_ms);
  options.suspect_after = Milliseconds(flags.peer_timeout_ms / 2);
  return Runtime::Start(options);
}

int RoleMain(CLI::App* app, int argc, char** argv, const std::function<Status()>& run) {
  WatchLifeline();
  std::signal(SIGPIPE, SIG_IGN);
  try {
    app->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app->exit(error) == 0 ? 0 : 2;
  }
  const Status status = run();
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s: %s\n", app->get_name().c_str(), status.ToString().c_str());
  return 1;
}

}  // namespace packcast::examples
