#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "protocol/status.h"
#include "runtime/actor/runtime.h"

namespace CLI {
class App;
}

namespace packcast::examples {

// Flags that every role has.
struct RoleFlags {
  std::string coordinator;  // of trainer and worker
  std::string model = "default";
  std::string cluster = "packcast";
  std::string name;
  std::string bind;
  bool insecure = false;
  std::string keys;  // a file
  int ready_fd = -1;
  int peer_timeout_ms = 900;
  bool shared_memory = false;  // of trainer and worker
};

// `members` adds the flags of those who look for a coordinator. Each flag can come from the
// environment too: PACKCAST_COORDINATOR, PACKCAST_RANK and so on; --help lists them.
void AddRoleFlags(CLI::App* app, RoleFlags* flags, bool member);

// The process's runtime by these flags.
StatusOr<std::unique_ptr<Runtime>> StartRuntime(const RoleFlags& flags, const std::string& name);

// Set by SIGINT and SIGTERM once they are caught. Members catch them when they are in the cluster:
// before, there is nothing to leave in good order, and waiting would only keep Ctrl-C waiting.
extern std::atomic<bool> stop_requested;
void CatchSignals();

// --bulk-host by the rule that holds for the control lane's address: beyond loopback only with keys
// or --insecure (kPermissionDenied).
Status CheckBulkHost(const RoleFlags& flags, const std::string& host);

// A role's main: parses, watches the lifeline and runs. Exit code 0, 2 for bad
// flags, 1 for a failed `run`, whose error goes to stderr.
int RoleMain(CLI::App* app, int argc, char** argv, const std::function<Status()>& run);

}  // namespace packcast::examples
