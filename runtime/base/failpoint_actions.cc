#include "runtime/base/failpoint_actions.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "runtime/base/failpoint.h"
#include "runtime/base/log.h"

namespace packcast {
namespace {

enum class Action { kExit, kKill, kStop, kDelay, kError };

struct Setting {
  Action action = Action::kError;
  int delay_ms = 0;
  int only_hit = 0;  // 0: every hit
  int hits = 0;
};

using Settings = std::map<std::string, Setting, std::less<>>;

bool ParseInt(std::string_view text, int* out) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), *out);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() && *out >= 0;
}

bool ParseAction(std::string_view text, Setting* setting) {
  const size_t at = text.find('@');
  if (at != std::string_view::npos) {
    if (!ParseInt(text.substr(at + 1), &setting->only_hit) || setting->only_hit == 0) return false;
    text = text.substr(0, at);
  }
  constexpr std::string_view kDelay = "delay:";
  if (text.substr(0, kDelay.size()) == kDelay) {
    setting->action = Action::kDelay;
    return ParseInt(text.substr(kDelay.size()), &setting->delay_ms);
  }
  static const std::map<std::string_view, Action> kActions = {{"exit", Action::kExit},
                                                              {"kill", Action::kKill},
                                                              {"stop", Action::kStop},
                                                              {"error", Action::kError}};
  const auto found = kActions.find(text);
  if (found == kActions.end()) return false;
  setting->action = found->second;
  return true;
}

StatusOr<Settings> Parse(const std::string& whole) {
  Settings settings;
  std::string_view text = whole;
  while (!text.empty()) {
    const size_t end = std::min(text.find(';'), text.size());
    const std::string_view part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (part.empty()) continue;
    const size_t equals = part.find('=');
    Setting setting;
    if (equals == std::string_view::npos || !ParseAction(part.substr(equals + 1), &setting)) {
      return InvalidArgument("bad failpoint \"" + std::string(part) + "\"");
    }
    if (!settings.emplace(part.substr(0, equals), setting).second) {
      return InvalidArgument("a failpoint is set twice in \"" + whole + "\"");
    }
  }
  return settings;
}

// All of the process: failpoints exist to be reached from anywhere. Never destroyed, as threads may
// reach one while the process exits.
struct Registry {
  std::mutex mutex;  // guards what follows
  Settings settings;
  std::set<std::string, std::less<>> reached;  // that the watcher was told of
  int watcher = -1;
};

Registry& TheRegistry() {
  static auto* registry = new Registry;
  return *registry;
}

// Never waits: a watcher that does not read misses something.
void Tell(int watcher, std::string line) {
  if (watcher < 0) return;
  line += '\n';
  (void)send(watcher, line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

Status Act(std::string_view name) {
  Registry& registry = TheRegistry();
  Setting setting;
  {
    std::lock_guard lock(registry.mutex);
    if (registry.watcher >= 0 && !registry.reached.contains(name)) {
      registry.reached.emplace(name);
      Tell(registry.watcher, "reached " + std::string(name));
    }
    const auto found = registry.settings.find(name);
    if (found == registry.settings.end()) return OkStatus();
    const int hit = ++found->second.hits;
    if (found->second.only_hit != 0 && hit != found->second.only_hit) return OkStatus();
    setting = found->second;
    Tell(registry.watcher, "acts " + std::string(name));
  }
  LogWarning("failpoint ", name, " acts");
  switch (setting.action) {
    case Action::kExit: _exit(42);
    case Action::kKill: raise(SIGKILL); break;
    case Action::kStop: raise(SIGSTOP); break;
    case Action::kDelay:
      std::this_thread::sleep_for(std::chrono::milliseconds(setting.delay_ms));
      break;
    case Action::kError: return Internal("failpoint " + std::string(name));
  }
  return OkStatus();
}

// Takes settings from the watcher for as long as it is there.
void Listen(int watcher) {
  std::string text;
  char part[4096];
  while (true) {
    const ssize_t got = recv(watcher, part, sizeof(part), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    text.append(part, static_cast<size_t>(got));
    for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n')) {
      const Status status = SetFailpoints(text.substr(0, end));
      text.erase(0, end + 1);
      Tell(watcher, status.ok() ? "set" : "bad " + status.ToString());
    }
  }
}

void StartListening(const char* descriptor) {
  int watcher = -1;
  if (!ParseInt(descriptor, &watcher) || fcntl(watcher, F_SETFD, FD_CLOEXEC) != 0) {
    LogError("PACKCAST_FAILPOINTS_FD: \"", descriptor, "\" is not an open descriptor");
    return;
  }
  TheRegistry().watcher = watcher;
  // Detached: it lives as long as the process.
  std::thread([watcher] { Listen(watcher); }).detach();
}

// Before main, on the only thread.
[[maybe_unused]] const bool is_on = [] {
  if (const char* text = std::getenv("PACKCAST_FAILPOINTS")) {
    if (const Status status = SetFailpoints(text); !status.ok()) {
      LogError("PACKCAST_FAILPOINTS: ", status);
    }
  }
  if (const char* descriptor = std::getenv("PACKCAST_FAILPOINTS_FD")) StartListening(descriptor);
  SetFailpointHook(&Act);
  return true;
}();

}  // namespace

Status SetFailpoints(const std::string& settings) {
  PC_ASSIGN_OR_RETURN(Settings parsed, Parse(settings));
  Registry& registry = TheRegistry();
  std::lock_guard lock(registry.mutex);
  registry.settings = std::move(parsed);
  return OkStatus();
}

}  // namespace packcast
