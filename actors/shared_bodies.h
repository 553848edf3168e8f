#pragma once

#include <map>
#include <memory>

#include "actors/coordinator_machine.h"
#include "runtime/actor/shared_body.h"

namespace packcast {

// The bodies of what one step of the coordinator sends: what goes to many is encoded once. Not
// thread-safe.
class SharedBodies {
 public:
  // kInvalidArgument: it is too large.
  StatusOr<SharedBody> Of(const std::shared_ptr<const CoordinatorMessage>& message) {
    const auto made = made_.find(message);
    if (made != made_.end()) return made->second;
    PC_ASSIGN_OR_RETURN(SharedBody body, SharedBody::Make(MessageBody(*message)));
    if (message.use_count() > 1) made_.emplace(message, body);
    return body;
  }

 private:
  std::map<std::shared_ptr<const CoordinatorMessage>, SharedBody> made_;
};

}  // namespace packcast
