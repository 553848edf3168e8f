#include "runtime/actor/reply_cache.h"

namespace packcast::internal {

bool ReplyCache::Begin(CallId id, const Reply** known) {
  const auto [entry, is_new] = replies_.try_emplace(id.value);
  if (is_new) {
    order_.push_back(id.value);
    Trim();
    return true;
  }
  *known = &entry->second;
  return false;
}

void ReplyCache::Finish(CallId id, std::string_view envelope, std::string_view body) {
  const auto entry = replies_.find(id.value);
  if (entry == replies_.end() || entry->second.is_done) return;
  entry->second = {true, std::string(envelope), std::string(body)};
  bytes_ += envelope.size() + body.size();
  Trim();
}

void ReplyCache::Forget(CallId id) {
  const auto entry = replies_.find(id.value);
  if (entry == replies_.end()) return;
  bytes_ -= entry->second.envelope.size() + entry->second.body.size();
  replies_.erase(entry);
}

void ReplyCache::Trim() {
  while (!order_.empty() && (order_.size() > kCalls || bytes_ > kBytes)) {
    Forget(CallId(order_.front()));
    order_.pop_front();
  }
}

}  // namespace packcast::internal
