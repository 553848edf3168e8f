#pragma once

#include <functional>
#include <memory>
#include <string>

#include "protocol/ids.h"
#include "protocol/status.h"
#include "runtime/actor/actor_ref.h"
#include "runtime/actor/future.h"
#include "runtime/actor/task.h"

// The way of typed messages to an actor of this process: a closure in its mailbox, and neither
// codec nor Value in between. For typed_ref.h.
namespace packcast::internal {

class Node;

// A call that waits for its result in the node's table, where its deadline, a cancel or the end of
// the runtime can take it from its actor. Copyable; thread-safe.
class LocalCall {
 public:
  LocalCall() = default;
  LocalCall(std::shared_ptr<Node> node, CallId id) : node_(std::move(node)), id_(id) {}

  // To be called before the method runs; false: nobody waits any more, so it must not run.
  bool Begin() const;
  // Takes it out of the table: whoever gets true resolves the caller's future.
  bool Take() const;
  // Resolves it to kCancelled, if it is still there.
  void Cancel() const;

 private:
  std::shared_ptr<Node> node_;
  CallId id_;
};

// MethodCatalog::type of a local actor; null when it is remote or has no catalog.
const void* LocalType(const ActorRef& ref);
// Where the callbacks of a call's future run.
CallbackRunner CallbacksOf(const ActorRef& ref);
// Registers a call to a local actor; `fail` is called when it ends otherwise than by LocalCall.
// Errors: kResourceExhausted (the window), kDeadlineExceeded, kCancelled.
StatusOr<LocalCall> BeginLocalCall(const ActorRef& ref, const std::string& method,
                                   const CallOptions& options,
                                   std::function<void(const Status&)> fail);
// Queues `task` where messages of `method` go. What is refused has been dropped with the status.
Status PushLocal(const ActorRef& ref, Task task, const std::string& method, bool control);

}  // namespace packcast::internal
