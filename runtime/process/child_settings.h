#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocol/ids.h"
#include "protocol/status.h"
#include "runtime/actor/runtime.h"

namespace packcast::internal {

// What a Process tells its child: in a file without a name, as keys are among it.
struct ChildSettings {
  // Descriptors in the child.
  static constexpr int kLifelineFd = 3;
  static constexpr int kReadyFd = 4;
  static constexpr int kSettingsFd = 5;
  // An environment variable that says that they are there.
  static constexpr const char* kMark = kChildMark;

  std::string node;
  std::string cluster;
  Incarnation incarnation;
  bool detached = false;  // then there is no lifeline
  int32_t executor_threads = 0;
  // As the parent's: both sides of a connection judge each other alike.
  int64_t beat_interval_us = 0;
  int64_t suspect_after_us = 0;
  int64_t unreachable_after_us = 0;
  // Empty: none.
  std::string public_key;
  std::string secret_key;
  std::string server_public_key;
  std::vector<std::string> allowed;

  template <class V>
  void Fields(V& v) {
    v("node", node);
    v("cluster", cluster);
    v("incarnation", incarnation.value);
    v("detached", detached);
    v("executor_threads", executor_threads);
    v("beat_interval_us", beat_interval_us);
    v("suspect_after_us", suspect_after_us);
    v("unreachable_after_us", unreachable_after_us);
    v("public_key", public_key);
    v("secret_key", secret_key);
    v("server_public_key", server_public_key);
    v("allowed", allowed);
  }

  // For a child of who has these options.
  static ChildSettings For(const RuntimeOptions& parent);
  RuntimeOptions ToOptions() const;

  std::string Encode() const;
  // Takes the mark out of this process's environment, as it is not for its own children, and reads
  // the rest; nothing when there is no mark. Not thread-safe.
  static StatusOr<std::optional<ChildSettings>> Take();
};

// What a parent writes into the lifeline before it closes it, when the child is to end in order;
// then its patience follows, in ms, and a line's end.
inline constexpr char kLifelineStop[] = "stop ";

}  // namespace packcast::internal
