#include "runtime/process/host.h"

namespace packcast::internal {

Status Host::Spawn(Context& context, const Request& request) {
  PC_ASSIGN_OR_RETURN(ActorFactory factory,
                      classes_->Factory(request.actor_class, request.arguments));
  SpawnOptions options;
  options.restart.max_restarts = request.max_restarts;
  return context.runtime().Spawn(request.name, std::move(factory), options).status();
}

}  // namespace packcast::internal
