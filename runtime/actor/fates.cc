#include "runtime/actor/fates.h"

namespace packcast::internal {

void Fates::Add(const std::string& actor, const std::vector<Incarnation>& lives,
                const Status& end) {
  for (const Incarnation life : lives) {
    const Life key(actor, life.value);
    if (ends_.insert_or_assign(key, end).second) order_.push_back(key);
    if (order_.size() <= kLives) continue;
    ends_.erase(order_.front());
    order_.pop_front();
  }
}

Status Fates::Find(const std::string& actor, Incarnation life) const {
  const auto found = ends_.find({actor, life.value});
  return found == ends_.end() ? OkStatus() : found->second;
}

}  // namespace packcast::internal
