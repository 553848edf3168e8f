#include "runtime/process/environment.h"

#include <charconv>
#include <cstdlib>

namespace packcast::internal {
namespace {

constexpr char kNode[] = "PACKCAST_CHILD_NODE";
constexpr char kCluster[] = "PACKCAST_CHILD_CLUSTER";
constexpr char kIncarnation[] = "PACKCAST_CHILD_INCARNATION";
constexpr char kDetached[] = "PACKCAST_CHILD_DETACHED";

std::string TakeVariable(const char* name) {
  const char* value = std::getenv(name);
  const std::string text = value == nullptr ? "" : value;
  unsetenv(name);
  return text;
}

}  // namespace

std::map<std::string, std::string> ChildEnvironment::Variables() const {
  return {{kNode, node},
          {kCluster, cluster},
          {kIncarnation, std::to_string(incarnation.value)},
          {kDetached, detached ? "1" : "0"}};
}

StatusOr<std::optional<ChildEnvironment>> ChildEnvironment::Take() {
  if (std::getenv(kNode) == nullptr) return std::optional<ChildEnvironment>();
  ChildEnvironment child;
  child.node = TakeVariable(kNode);
  child.cluster = TakeVariable(kCluster);
  child.detached = TakeVariable(kDetached) == "1";
  const std::string number = TakeVariable(kIncarnation);
  const auto read =
      std::from_chars(number.data(), number.data() + number.size(), child.incarnation.value);
  if (read.ec != std::errc() || read.ptr != number.data() + number.size()) {
    return InvalidArgument(std::string(kIncarnation) + "=" + number + " is no number: unset " +
                           kNode + ", which only a packcast process sets");
  }
  return std::optional<ChildEnvironment>(std::move(child));
}

}  // namespace packcast::internal
