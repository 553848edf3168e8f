#pragma once

#include <string>

#include "protocol/status.h"

// What makes failpoints act, for test programs: linking //runtime/base:failpoint_actions is enough.
//   PACKCAST_FAILPOINTS="worker.staged.installing=kill;worker.prepare=delay:9;worker.join=error@3"
// Actions: exit (status 42), kill (SIGKILL), stop (SIGSTOP), delay:<ms>, error. "@n" acts on the
// n-th hit only, from 1. Each failpoint has one setting.
//
// PACKCAST_FAILPOINTS_FD names a socket to somebody who watches. A line that comes replaces the
// settings and is answered by "set", or "bad" and why. Told without being asked: "reached NAME" at
// the first hit of each failpoint, "acts NAME" just before one acts.
namespace packcast {

// Replaces the settings, and counts hits anew. Errors: kInvalidArgument names the bad part.
// Thread-safe.
Status SetFailpoints(const std::string& settings);

}  // namespace packcast
