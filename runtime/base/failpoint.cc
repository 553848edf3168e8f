#include "runtime/base/failpoint.h"

#include <string>

#include "runtime/base/log.h"

namespace packcast {

void SetFailpointHook(FailpointHook hook) {
  internal::failpoint_hook.store(hook, std::memory_order_release);
}

namespace internal {

Status AskFailpointHook(std::initializer_list<std::string_view> parts) {
  std::string name;
  for (const std::string_view part : parts) {
    if (!name.empty()) name += '.';
    name += part;
  }
  const FailpointHook hook = failpoint_hook.load(std::memory_order_acquire);
  return hook == nullptr ? OkStatus() : hook(name);
}

void PassFailpointHook(std::initializer_list<std::string_view> parts) {
  const Status status = AskFailpointHook(parts);
  if (!status.ok()) LogError(status, ": there is nothing here that could fail");
}

}  // namespace internal
}  // namespace packcast
