#include "runtime/actor/reply_cache.h"

namespace packcast::internal {
namespace {

size_t BytesOf(const ReplyCache::Reply& reply) {
  return reply.envelope.status.message().size() + reply.body.size();
}

}  // namespace

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

void ReplyCache::Finish(CallId id, const Envelope& envelope, std::string_view body) {
  const auto entry = replies_.find(id.value);
  if (entry == replies_.end() || entry->second.is_done) return;
  entry->second = {true, envelope, std::string(body)};
  bytes_ += BytesOf(entry->second);
  Trim();
}

void ReplyCache::Forget(CallId id) {
  const auto entry = replies_.find(id.value);
  if (entry == replies_.end()) return;
  bytes_ -= BytesOf(entry->second);
  replies_.erase(entry);
}

void ReplyCache::Trim() {
  while (!order_.empty() && (order_.size() > kCalls || bytes_ > kBytes)) {
    Forget(CallId(order_.front()));
    order_.pop_front();
  }
}

}  // namespace packcast::internal
