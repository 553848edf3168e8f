#include "runtime/actor/reply_cache.h"

namespace packcast::internal {
namespace {

size_t BytesOf(const ReplyCache::Reply& reply) {
  return reply.envelope.status.message().size() + reply.body.size();
}

void Forget(ReplyCache::Reply* reply) {
  reply->body = WireBody();
  reply->envelope.status =
      ResourceExhausted("the call ran when it came first, but its reply is not kept any more")
          .WithOutcome(Outcome::kExecuted);
}

}  // namespace

bool ReplyCache::Begin(CallId id, const Reply** known) {
  const auto [entry, is_new] = replies_.try_emplace(id.value);
  if (!is_new) *known = &entry->second;
  return is_new;
}

void ReplyCache::Finish(CallId id, const Envelope& envelope, const WireBody& body) {
  const auto entry = replies_.find(id.value);
  if (entry == replies_.end() || entry->second.is_done) return;
  Reply& reply = entry->second;
  reply = {true, envelope, WireBody()};
  const bool did_run = envelope.status.ok() || envelope.status.outcome() != Outcome::kNotExecuted;
  if (!did_run) {
    refused_.push_back(id.value);
    return Trim();
  }
  done_.push_back(id.value);
  if (BytesOf(reply) + body.size() > kBytes) {
    Forget(&reply);
    return Trim();
  }
  reply.body = body.Copy();
  bytes_ += BytesOf(reply);
  kept_.push_back(id.value);
  Trim();
}

void ReplyCache::Trim() {
  while (refused_.size() > kCalls) {
    replies_.erase(refused_.front());
    refused_.pop_front();
  }
  while (bytes_ > kBytes) Forget(&TakeKept());
  while (done_.size() > kCalls) {
    if (!kept_.empty() && kept_.front() == done_.front()) TakeKept();
    replies_.erase(done_.front());
    done_.pop_front();
  }
}

ReplyCache::Reply& ReplyCache::TakeKept() {
  Reply& oldest = replies_[kept_.front()];
  kept_.pop_front();
  bytes_ -= BytesOf(oldest);
  return oldest;
}

}  // namespace packcast::internal
