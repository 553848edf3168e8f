#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
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
  // Whether members fetch the bytes from the root's memory by themselves. At the root an operation
  // is then complete when every member has it, and Launch comes after Operation::ready has fired.
  virtual bool is_one_sided() const { return false; }
  // Root: what the members' wires need to be told about an operation before they launch it.
  virtual StatusOr<std::string> NoteFor(const Operation&) { return std::string(); }
  // Starts an operation after all earlier ones; returns at once. The spans stay until it is
  // complete, or until Abort has returned OK. At a member it carries the root's note.
  virtual Status Launch(const Operation& operation) = 0;
  // Operations complete since the wire came up, in order. Not asked at a one-sided root.
  virtual StatusOr<uint64_t> Completed() = 0;
  // Member of a one-sided wire: whether it maps the bytes instead of copying them. An operation's
  // span has a length and no memory then, and is complete once it is mapped.
  virtual bool reads_in_place() const { return false; }
  // With reads_in_place: the bytes of a complete operation (counted since the wire came up), until
  // its Release; those come in order.
  virtual StatusOr<std::span<const std::byte>> Landed(uint64_t) { return Internal("not mapped"); }
  virtual void Release() {}
  // Gives up, for ever, here only: every rank does so by itself. Any thread; idempotent. When it
  // has returned OK nothing touches a span. kDeadlineExceeded when that cannot be proven.
  virtual Status Abort() = 0;
  // As Abort, but returns at once. Any thread.
  virtual void BeginAbort() = 0;
};

// A collective whose words (grants, gates, seals) travel over `control` and whose bytes travel over
// `wire`. `control` completes an operation as soon as its gate is there; with a one-sided wire,
// once all members have released it.
std::unique_ptr<Collective> MakeWiredCollective(const JoinOptions& options,
                                                std::unique_ptr<Collective> control,
                                                std::unique_ptr<Wire> wire);

}  // namespace packcast
