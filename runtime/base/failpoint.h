#pragma once

#include <string>
#include <string_view>

#include "protocol/status.h"

namespace packcast {

// Named places where tests make a process fail. Off unless the environment says
//   PACKCAST_FAILPOINTS="worker.staged=kill;trainer.open=delay:200;sink.load=error@3"
// Actions: exit (status 42), kill (SIGKILL), stop (SIGSTOP), delay:<ms>, error. "@n" acts on the
// n-th hit only, from 1. Thread-safe; costs one load when off.
Status Failpoint(std::string_view name);

// Replaces the settings, for tests in one process. Errors: kInvalidArgument names the bad part.
Status SetFailpoints(const std::string& settings);

}  // namespace packcast
