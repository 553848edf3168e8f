#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/time.h"
#include "runtime/base/strings.h"

namespace packcast {

enum class LogLevel : int { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3, kOff = 4 };

// Lines below `level` cost nothing but a comparison. The default is kInfo, or the environment's
// PACKCAST_LOG: debug, info, warning, error or off. Thread-safe.
void SetLogLevel(LogLevel level);
bool IsLogged(LogLevel level);
// One line to stderr with time, level and thread.
void Log(LogLevel level, std::string_view line);

template <class... Args>
void LogDebug(const Args&... args) {
  if (IsLogged(LogLevel::kDebug)) Log(LogLevel::kDebug, StrCat(args...));
}
template <class... Args>
void LogInfo(const Args&... args) {
  if (IsLogged(LogLevel::kInfo)) Log(LogLevel::kInfo, StrCat(args...));
}
template <class... Args>
void LogWarning(const Args&... args) {
  if (IsLogged(LogLevel::kWarning)) Log(LogLevel::kWarning, StrCat(args...));
}
template <class... Args>
void LogError(const Args&... args) {
  if (IsLogged(LogLevel::kError)) Log(LogLevel::kError, StrCat(args...));
}

// Lets a few lines through per interval, for what a stranger can cause at any rate. Thread-safe.
class LogLimiter {
 public:
  explicit LogLimiter(int lines = 5, Duration interval = Seconds(10))
      : lines_(lines), interval_(interval) {}
  // True when a line may be written at `now`.
  bool Allow(Time now);

 private:
  const int lines_;
  const Duration interval_;
  std::atomic<int64_t> interval_start_ns_{0};
  std::atomic<int> written_{0};
};

}  // namespace packcast
