#pragma once

#include <string>
#include <string_view>

#include "protocol/status.h"

namespace packcast {

// Named places where tests make a process fail. Off unless the environment says
//   PACKCAST_FAILPOINTS="worker.staged=kill;trainer.open=delay:200;sink.load=error@3"
// Actions: exit (status 42), kill (SIGKILL), stop (SIGSTOP), delay:<ms>, error. "@n" acts on the
// n-th hit only, from 1. Thread-safe; costs one load when off.
//
// Those of packcast itself, all in the life of a communicator (runtime/data/cuda/nccl_wire.cc):
//   nccl.init     NCCL has begun to connect the ranks
//   nccl.warmup   a warm-up broadcast was handed to NCCL: three hits a communicator
//   nccl.enqueue  between begin and end of a step's group: one hit a step
//   nccl.wire     a step was launched: one hit a step
Status Failpoint(std::string_view name);

// Replaces the settings, for tests in one process. Errors: kInvalidArgument names the bad part.
Status SetFailpoints(const std::string& settings);

}  // namespace packcast
