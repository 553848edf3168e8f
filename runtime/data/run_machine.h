#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>

#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/data/broadcast.h"
#include "runtime/data/cancel_token.h"
#include "runtime/data/collective.h"
#include "runtime/data/phase_timer.h"

namespace packcast::internal {

// Bytes copied by one Advance, about: the collective is polled after that many, so this bounds how
// long a finished transfer waits for its successor (0.1 ms at 10 GB/s).
inline constexpr uint64_t kAdvanceBytes = uint64_t{1} << 20;
// What is copied and then hashed at a time: stays in the L2 cache.
inline constexpr uint64_t kSliceBytes = uint64_t{256} << 10;
// What a row or step costs an Advance besides its bytes, so that many tiny rows are bounded too.
inline constexpr uint64_t kEventBytes = 4096;

// A Poll waits no longer, so that beats grow and cancellation is seen even if a wake got lost.
inline constexpr Duration kPollMax = Milliseconds(100);

// Run of PackedProducer and PackedConsumer. A Machine has Advance, idle, Abort, result and
// wait_seconds (where to count the waiting of now).
template <class Machine>
StatusOr<BroadcastResult> RunMachine(Machine* machine, Collective* collective, Time deadline,
                                     CancelToken* cancel, std::atomic<uint64_t>* beats) {
  ScopedWake wake(cancel, [collective] { collective->Wake(); });
  while (true) {
    if (beats != nullptr) beats->fetch_add(1, std::memory_order_relaxed);
    if (cancel != nullptr && cancel->cancelled()) {
      machine->Abort(cancel->status());
      return cancel->status();
    }
    PC_ASSIGN_OR_RETURN(const bool finished, machine->Advance());
    if (finished) return machine->result();
    const Time now = std::chrono::steady_clock::now();
    if (now >= deadline) {
      const Status late =
          DeadlineExceeded(collective->Describe(collective->rank()) +
                           " is past its deadline, waiting for " + collective->WaitingFor());
      machine->Abort(late);
      return late;
    }
    if (!machine->idle()) {
      const Status polled = collective->Poll(Duration::zero());
      if (!polled.ok()) machine->Abort(polled);
      continue;
    }
    PhaseTimer timer(machine->wait_seconds());
    const Status polled = collective->Poll(std::min<Duration>(deadline - now, kPollMax));
    if (!polled.ok()) machine->Abort(polled);
  }
}

}  // namespace packcast::internal
