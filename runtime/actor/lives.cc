#include "runtime/actor/lives.h"

namespace packcast::internal {

bool Lives::IsSuperseded(const std::string& node, Incarnation life) const {
  return superseded_.contains({node, life});
}

bool Lives::Admit(const std::string& node, Incarnation life) {
  if (IsSuperseded(node, life)) return false;
  const auto [latest, is_new] = latest_.try_emplace(node, life);
  if (is_new) {
    names_.push_back(node);
    if (names_.size() > kNames) {
      latest_.erase(names_.front());
      names_.pop_front();
    }
    return true;
  }
  const Incarnation earlier = std::exchange(latest->second, life);
  if (earlier == life) return true;
  order_.emplace_back(node, earlier);
  superseded_.insert(order_.back());
  if (order_.size() > kSuperseded) {
    superseded_.erase(order_.front());
    order_.pop_front();
  }
  return true;
}

}  // namespace packcast::internal
