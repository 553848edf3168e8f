#include "runtime/actor/reply_cache.h"

namespace packcast::internal {
namespace {

size_t BytesOf(const ReplyCache::Reply& reply) {
  size_t bytes = reply.envelope.status.message().size() + reply.value.size();
  if (reply.apart == nullptr) return bytes;
  for (const ByteRange& range : *reply.apart) bytes += range.size();
  return bytes;
}

void Forget(ReplyCache::Reply* reply) {
  reply->value = std::string();
  reply->apart = nullptr;
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
  reply = {true, envelope, {}, nullptr};
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
  reply.value = body.value.view();
  if (body.apart != nullptr) {
    ApartRanges copies;
    for (const ByteRange& range : *body.apart) copies.emplace_back(range.Copy());
    reply.apart = std::make_shared<const ApartRanges>(std::move(copies));
  }
  bytes_ += BytesOf(reply);
  kept_.push_back(id.value);
  Trim();
}

void ReplyCache::Trim() {
  while (refused_.size() > kCalls) {
    replies_.erase(refused_.front());
    refused_.pop_front();
  }
  while (bytes_ > kBytes) {
    Forget(&TakeKept());
  }
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
