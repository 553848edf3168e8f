#include "runtime/actor/lives.h"

namespace packcast::internal {

bool Lives::IsSuperseded(const std::string& node, Incarnation life) const {
  return superseded_.contains({node, life});
}

Incarnation Lives::HolderOf(const std::string& node) const {
  const auto found = latest_.find(node);
  return found == latest_.end() ? Incarnation() : found->second;
}

Lives::Verdict Lives::Admit(const std::string& node, Incarnation life, Incarnation earlier) {
  if (IsSuperseded(node, life)) return Verdict::kSuperseded;
  const auto [latest, is_new] = latest_.try_emplace(node, life);
  if (is_new) {
    names_.push_back(node);
    if (names_.size() > kNames) {
      latest_.erase(names_.front());
      names_.pop_front();
    }
    return Verdict::kAdmitted;
  }
  if (latest->second == life) return Verdict::kAdmitted;
  if (latest->second != earlier) return Verdict::kMustName;
  latest->second = life;
  order_.emplace_back(node, earlier);
  superseded_.insert(order_.back());
  if (order_.size() > kSuperseded) {
    superseded_.erase(order_.front());
    order_.pop_front();
  }
  return Verdict::kAdmitted;
}

}  // namespace packcast::internal
