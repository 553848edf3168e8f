#pragma once

#include <functional>
#include <optional>

#include "protocol/status.h"
#include "runtime/actor/runtime.h"
#include "runtime/process/actor_classes.h"

namespace packcast {

// For the first line of main: when a Process has started this program, runs a runtime that is
// connected with it until the parent stops it, is gone, or SIGTERM or SIGINT comes (a detached one:
// until the signal), and returns the exit code. Else nothing happens.
//   if (const auto code = RunIfChild(classes)) return *code;
// `setup` may spawn actors of its own; the parent's Process::Start fails with what it returns.
// Blocks both signals in this thread.
std::optional<int> RunIfChild(const ActorClasses& classes,
                              const std::function<Status(Runtime&)>& setup = nullptr);

}  // namespace packcast
