#include "runtime/process/actor_classes.h"

namespace packcast {

StatusOr<ActorFactory> ActorClasses::Factory(const std::string& name,
                                             const Value& arguments) const {
  const auto found = makers_.find(name);
  if (found != makers_.end()) return found->second(arguments);
  std::string names;
  for (const auto& [known, maker] : makers_) names += (names.empty() ? "" : ", ") + known;
  return NotFound("no actor class \"" + name +
                  "\" here; there are: " + (names.empty() ? "none" : names));
}

}  // namespace packcast
