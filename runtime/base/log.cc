#include "runtime/base/log.h"

#include <cstdlib>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace packcast {
namespace {

LogLevel LevelFromEnvironment() {
  const char* text = std::getenv("PACKCAST_LOG");
  const std::string_view name = text == nullptr ? "" : text;
  if (name == "debug") return LogLevel::kDebug;
  if (name == "warning") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  if (name == "off") return LogLevel::kOff;
  return LogLevel::kInfo;
}

std::atomic<LogLevel>& CurrentLevel() {
  static std::atomic<LogLevel> level{LevelFromEnvironment()};
  return level;
}

spdlog::logger& Logger() {
  // Never destroyed: threads may log while the process exits.
  static auto* logger = [] {
    auto* made = new spdlog::logger("packcast", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%Y-%m-%d %H:%M:%S.%e %L %t packcast: %v");
    made->set_level(spdlog::level::debug);
    return made;
  }();
  return *logger;
}

spdlog::level::level_enum SpdlogLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
    case LogLevel::kOff: return spdlog::level::off;
  }
  return spdlog::level::info;
}

}  // namespace

void SetLogLevel(LogLevel level) { CurrentLevel().store(level, std::memory_order_relaxed); }

bool IsLogged(LogLevel level) {
  return level >= CurrentLevel().load(std::memory_order_relaxed) && level != LogLevel::kOff;
}

void Log(LogLevel level, std::string_view line) {
  if (!IsLogged(level)) return;
  // As an argument, never as the format: the line may hold braces of a stranger's.
  Logger().log(SpdlogLevel(level), "{}", spdlog::string_view_t(line.data(), line.size()));
}

bool LogLimiter::Allow(Time now) {
  const int64_t now_ns = now.time_since_epoch().count();
  int64_t start = interval_start_ns_.load();
  if ((start == 0 || now_ns - start > interval_.count()) &&
      interval_start_ns_.compare_exchange_strong(start, now_ns)) {
    written_.store(0);
  }
  return written_.fetch_add(1) < lines_;
}

}  // namespace packcast
