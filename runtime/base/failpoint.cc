#include "runtime/base/failpoint.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>

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

StatusOr<Settings> Parse(std::string_view text) {
  Settings settings;
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
    settings[std::string(part.substr(0, equals))] = setting;
  }
  return settings;
}

// All settings of the process. Failpoints are the one other global beside the log: they exist to
// be reached from anywhere.
struct Registry {
  Registry() {
    const char* text = std::getenv("PACKCAST_FAILPOINTS");
    if (text == nullptr) return;
    StatusOr<Settings> parsed = Parse(text);
    if (!parsed.ok()) {
      LogError("PACKCAST_FAILPOINTS: ", parsed.status());
      return;
    }
    settings = std::move(*parsed);
    is_on = !settings.empty();
  }
  std::atomic<bool> is_on{false};
  std::mutex mutex;
  Settings settings;
};

Registry& TheRegistry() {
  static Registry registry;
  return registry;
}

}  // namespace

Status Failpoint(std::string_view name) {
  Registry& registry = TheRegistry();
  if (!registry.is_on.load(std::memory_order_relaxed)) return OkStatus();
  Setting setting;
  {
    std::lock_guard lock(registry.mutex);
    const auto found = registry.settings.find(name);
    if (found == registry.settings.end()) return OkStatus();
    const int hit = ++found->second.hits;
    if (found->second.only_hit != 0 && hit != found->second.only_hit) return OkStatus();
    setting = found->second;
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

Status SetFailpoints(const std::string& settings) {
  PC_ASSIGN_OR_RETURN(Settings parsed, Parse(settings));
  Registry& registry = TheRegistry();
  std::lock_guard lock(registry.mutex);
  registry.settings = std::move(parsed);
  registry.is_on = !registry.settings.empty();
  return OkStatus();
}

}  // namespace packcast
