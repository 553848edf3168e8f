#include "runtime/actor/new_actor.h"

#include <atomic>

namespace packcast::internal {

std::string NextActorName() {
  static std::atomic<uint64_t> count{0};
  return "actor-" + std::to_string(++count);
}

}  // namespace packcast::internal
