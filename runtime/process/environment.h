#pragma once

#include <map>
#include <optional>
#include <string>

#include "protocol/ids.h"
#include "protocol/status.h"

namespace packcast::internal {

// What a Process tells its child through the environment.
struct ChildEnvironment {
  // Descriptors in the child.
  static constexpr int kLifelineFd = 3;
  static constexpr int kReadyFd = 4;

  std::string node;
  std::string cluster;
  Incarnation incarnation;
  bool detached = false;  // then there is no lifeline

  std::map<std::string, std::string> Variables() const;
  // Takes the variables out of this process's environment, as they are not for its own children;
  // nothing when they are not there. Not thread-safe.
  static StatusOr<std::optional<ChildEnvironment>> Take();
};

}  // namespace packcast::internal
