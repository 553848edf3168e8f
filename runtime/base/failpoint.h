#pragma once

#include <atomic>
#include <initializer_list>
#include <string_view>

#include "protocol/status.h"

namespace packcast {

// Named places where tests make a process fail. What acts there is a hook that only test programs
// link (failpoint_actions.h): without one a place costs a load, and no environment is read.
//
//   ROLE.FROM.TO     a machine has taken a step, and none of its effects is carried out yet;
//                    ROLE is coordinator, trainer or worker, FROM and TO are states
//                    (actors/states.h), equal when the step stays
//   ROLE.send.NAME   a message is about to be sent, to each receiver anew
//   ROLE.prepare, .join, .quiesce, .install, .abort   local work of a member; an error fails it
//   root.launch, root.seal, member.unpack   one step of a host's packed broadcast
//   nccl.init        NCCL has begun to connect the ranks
//   nccl.warmup      a warm-up broadcast was handed to NCCL: three hits a communicator
//   nccl.enqueue     between begin and end of a step's group: one hit a step
//   nccl.wire        a step was launched: one hit a step
//
// `bazel run //tests/chaos:failpoints` lists them. Thread-safe.
Status Failpoint(std::string_view name);
// The name is its parts with dots between; put together only when there is a hook.
Status Failpoint(std::initializer_list<std::string_view> parts);

// A place that has no way to fail: "error" is logged there and does nothing.
void PassFailpoint(std::initializer_list<std::string_view> parts);

// What is asked at each failpoint; null for none. For failpoint_actions and for tests that look.
using FailpointHook = Status (*)(std::string_view name);
void SetFailpointHook(FailpointHook hook);

// ---- how ----------------------------------------------------------------------------------

namespace internal {
inline std::atomic<FailpointHook> failpoint_hook{nullptr};
inline bool HasFailpointHook() { return failpoint_hook.load(std::memory_order_relaxed) != nullptr; }
Status AskFailpointHook(std::initializer_list<std::string_view> parts);
void PassFailpointHook(std::initializer_list<std::string_view> parts);
}  // namespace internal

inline Status Failpoint(std::initializer_list<std::string_view> parts) {
  return internal::HasFailpointHook() ? internal::AskFailpointHook(parts) : OkStatus();
}
inline Status Failpoint(std::string_view name) { return Failpoint({name}); }
inline void PassFailpoint(std::initializer_list<std::string_view> parts) {
  if (internal::HasFailpointHook()) internal::PassFailpointHook(parts);
}

}  // namespace packcast
