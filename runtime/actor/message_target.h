#pragma once

#include <string>

#include "protocol/status.h"
#include "protocol/value.h"
#include "runtime/actor/actor_ref.h"
#include "runtime/actor/future.h"

namespace packcast::internal {

// Where messages to a reference go that leads to no runtime, as those of a Stage do.
class MessageTarget {
 public:
  virtual ~MessageTarget() = default;
  virtual Status Tell(std::string method, Value body, const TellOptions& options) = 0;
  virtual Future<Value> Call(std::string method, Value body, const CallOptions& options) = 0;
};

// A reference to `target`, which tells who it is by these names.
ActorRef RefToTarget(std::shared_ptr<MessageTarget> target, std::string actor, std::string node,
                     Incarnation incarnation);

}  // namespace packcast::internal
