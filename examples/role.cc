#include "examples/role.h"

#include <csignal>
#include <cstdio>

#include <CLI/CLI.hpp>

#include "examples/lifeline.h"
#include "runtime/actor/keys.h"

namespace packcast::examples {

std::atomic<bool> stop_requested{false};

void CatchSignals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { stop_requested = true; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

std::string WrongPort(const std::string& endpoint) {
  constexpr unsigned long kPortMax = 65535;
  const size_t colon = endpoint.rfind(':');
  if (!endpoint.starts_with("tcp://") || colon == std::string::npos) return "";
  const std::string port = endpoint.substr(colon + 1);
  if (port == "*") return "";
  const bool digits = !port.empty() && port.size() <= 9 &&
                      port.find_first_not_of("0123456789") == std::string::npos;
  if (digits && std::stoul(port) <= kPortMax) return "";
  return endpoint + ": port \"" + port + "\" is not a number up to " + std::to_string(kPortMax);
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
      ->capture_default_str();
  app->add_option("--ready-fd", flags->ready_fd, "where to say that we are ready")->group("");
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
