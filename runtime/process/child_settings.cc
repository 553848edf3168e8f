#include "runtime/process/child_settings.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "protocol/codec.h"
#include "protocol/fields.h"
#include "runtime/actor/convert.h"

namespace packcast::internal {
namespace {

constexpr size_t kMostBytes = 16u << 20;

// All that comes until the pipe's other end is closed. Nothing: it is no pipe of ours.
std::optional<std::string> ReadAll(int fd) {
  std::string text;
  char part[1024];
  while (text.size() <= kMostBytes) {
    const ssize_t got = read(fd, part, sizeof part);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) return text;
    text.append(part, static_cast<size_t>(got));
  }
  return std::nullopt;
}

int64_t InMicroseconds(Duration d) {
  return std::chrono::duration_cast<std::chrono::microseconds>(d).count();
}

}  // namespace

ChildSettings ChildSettings::For(const RuntimeOptions& parent) {
  ChildSettings child;
  child.cluster = parent.cluster;
  child.beat_interval_us = InMicroseconds(parent.beat_interval);
  child.suspect_after_us = InMicroseconds(parent.suspect_after);
  child.unreachable_after_us = InMicroseconds(parent.unreachable_after);
  if (parent.keys) {
    child.public_key = parent.keys->public_key;
    child.secret_key = parent.keys->secret_key;
    child.server_public_key = parent.keys->server_public_key;
    child.allowed = parent.keys->allowed;
    // The parent itself is let in always; no list: its own pair is what counts.
    if (!child.allowed.empty()) child.allowed.push_back(parent.keys->public_key);
  }
  return child;
}

RuntimeOptions ChildSettings::ToOptions() const {
  RuntimeOptions options;
  options.name = node;
  options.cluster = cluster;
  options.incarnation = incarnation;
  options.executor_threads = executor_threads;
  options.beat_interval = Microseconds(beat_interval_us);
  options.suspect_after = Microseconds(suspect_after_us);
  options.unreachable_after = Microseconds(unreachable_after_us);
  if (!public_key.empty()) {
    options.keys = RuntimeKeys{public_key, secret_key, server_public_key, allowed};
  }
  return options;
}

std::string ChildSettings::Encode() const { return packcast::Encode(ToValue(*this)); }

StatusOr<std::optional<ChildSettings>> ChildSettings::Take() {
  if (std::getenv(kMark) == nullptr) return std::optional<ChildSettings>();
  unsetenv(kMark);
  const std::optional<std::string> text = ReadAll(kSettingsFd);
  close(kSettingsFd);
  const Status wrong = InvalidArgument(
      std::string(kMark) + " is set, but no packcast process has started this one: unset it");
  if (!text) return wrong;
  const StatusOr<Value> value = Decode(*text);
  if (!value.ok()) return wrong;
  ChildSettings child;
  if (!FromValue(*value, &child).ok()) return wrong;
  return std::optional<ChildSettings>(std::move(child));
}

}  // namespace packcast::internal
