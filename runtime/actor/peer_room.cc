#include "runtime/actor/peer_room.h"

#include <algorithm>

#include "runtime/actor/link.h"

namespace packcast::internal {

void PeerRoom::AddWay(const std::shared_ptr<Link>& link) {
  std::lock_guard lock(mutex_);
  std::erase_if(ways_, [](const auto& way) { return way.expired(); });
  for (const auto& way : ways_) {
    if (way.lock() == link) return;
  }
  ways_.push_back(link);
  if (ways_.size() > 1) has_choice_ = true;
}

void PeerRoom::RemoveWay(const Link* link) {
  std::lock_guard lock(mutex_);
  std::erase_if(ways_, [&](const auto& way) { return way.lock().get() == link; });
}

std::shared_ptr<Link> PeerRoom::WayOf(const std::shared_ptr<Link>& own) {
  if (!has_choice_.load()) return own;
  std::lock_guard lock(mutex_);
  for (auto way = ways_.begin(); way != ways_.end(); ++way) {
    std::shared_ptr<Link> link = way->lock();
    // What an unreachable peer has not read may still come to it, as long as the connection stands;
    // and one that has left takes nothing by other ways either.
    if (link == nullptr || (!link->connected.load() && !link->is_gone())) continue;
    // It stays the first until its connection is lost, even when another one is back before.
    std::rotate(ways_.begin(), way, way + 1);
    return link;
  }
  return own;
}

}  // namespace packcast::internal
