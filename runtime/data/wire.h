#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/data/collective.h"
#include "runtime/data/transport.h"

namespace packcast {

// What moves the bytes of operations that a collective has agreed on: NCCL, say. It knows nothing
// of streams, grants and gates: every rank launches the same operations in the same order.
// One thread makes all calls but Abort. Errors are sticky.
class Wire {
 public:
  virtual ~Wire() = default;

  // True once all ranks are connected and warm: from then on nothing is allocated or loaded.
  virtual StatusOr<bool> Up() = 0;
  // Starts an operation after all earlier ones; returns at once. The spans stay until it is
  // complete, or until Abort has returned OK.
  virtual Status Launch(const Operation& operation) = 0;
  // Operations complete since the wire came up. They complete in order.
  virtual StatusOr<uint64_t> Completed() = 0;
  // Gives up, for ever, here only: every rank does so by itself. Any thread; idempotent. When it
  // has returned OK nothing touches a span. kDeadlineExceeded when that cannot be proven.
  virtual Status Abort() = 0;
  // As Abort, but returns at once. Any thread.
  virtual void BeginAbort() = 0;
};

// A collective whose words (grants, gates, seals) travel over `control` and whose bytes travel over
// `wire`. `control` completes an operation as soon as its gate is there.
std::unique_ptr<Collective> MakeWiredCollective(const JoinOptions& options,
                                                std::unique_ptr<Collective> control,
                                                std::unique_ptr<Wire> wire);

}  // namespace packcast
