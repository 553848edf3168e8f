#include "runtime/actor/call_table.h"

#include <algorithm>

namespace packcast::internal {

CallId CallTable::Add(PendingCall* call) {
  std::lock_guard lock(mutex_);
  if (is_closed_) return CallId();
  const uint64_t id = ++last_id_;
  call->envelope.call_id = CallId(id);
  deadlines_.emplace(call->deadline, id);
  calls_.emplace(id, std::move(*call));
  return CallId(id);
}

PendingCall CallTable::Extract(Map::iterator entry) {
  deadlines_.erase({entry->second.deadline, entry->first});
  PendingCall call = std::move(entry->second);
  calls_.erase(entry);
  return call;
}

std::optional<PendingCall> CallTable::Take(CallId id, const Link* link) {
  std::lock_guard lock(mutex_);
  const auto entry = calls_.find(id.value);
  if (entry == calls_.end() || entry->second.link.get() != link) return std::nullopt;
  return Extract(entry);
}

std::vector<PendingCall> CallTable::TakeExpired(Time now) {
  std::vector<PendingCall> taken;
  std::lock_guard lock(mutex_);
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    taken.push_back(Extract(calls_.find(deadlines_.begin()->second)));
  }
  return taken;
}

std::vector<PendingCall> CallTable::TakeLink(const Link* link, bool keep_idempotent) {
  std::vector<PendingCall> taken;
  std::lock_guard lock(mutex_);
  for (auto entry = calls_.begin(); entry != calls_.end();) {
    const auto next = std::next(entry);
    const bool is_kept = keep_idempotent && entry->second.idempotent;
    if (entry->second.link.get() == link && !is_kept) taken.push_back(Extract(entry));
    entry = next;
  }
  return taken;
}

std::vector<PendingCall> CallTable::Close() {
  std::vector<PendingCall> taken;
  std::lock_guard lock(mutex_);
  is_closed_ = true;
  while (!calls_.empty()) taken.push_back(Extract(calls_.begin()));
  return taken;
}

bool CallTable::is_closed() const {
  std::lock_guard lock(mutex_);
  return is_closed_;
}

std::optional<Time> CallTable::NextDeadline() const {
  std::lock_guard lock(mutex_);
  if (deadlines_.empty()) return std::nullopt;
  return deadlines_.begin()->first;
}

bool CallTable::MarkSent(CallId id) {
  std::lock_guard lock(mutex_);
  const auto entry = calls_.find(id.value);
  if (entry == calls_.end()) return false;
  entry->second.sent = true;
  return true;
}

void CallTable::MarkUnsent(CallId id) {
  std::lock_guard lock(mutex_);
  const auto entry = calls_.find(id.value);
  // A repeated call may have left before.
  if (entry != calls_.end() && !entry->second.idempotent) entry->second.sent = false;
}

bool CallTable::IsIdempotent(CallId id) const {
  std::lock_guard lock(mutex_);
  const auto entry = calls_.find(id.value);
  return entry != calls_.end() && entry->second.idempotent;
}

std::optional<PendingCall> CallTable::TakeSent(CallId id, const Link* link) {
  std::lock_guard lock(mutex_);
  const auto entry = calls_.find(id.value);
  const bool is_there = entry != calls_.end() && entry->second.link.get() == link;
  if (!is_there || !entry->second.sent) return std::nullopt;
  return Extract(entry);
}

std::vector<Outgoing> CallTable::Repeat(const std::shared_ptr<Link>& link, Time now) {
  std::vector<Outgoing> messages;
  std::lock_guard lock(mutex_);
  for (auto& [id, call] : calls_) {
    if (call.link != link || !call.idempotent || call.deadline <= now) continue;
    call.envelope.deadline_ms = ToMilliseconds(call.deadline - now);
    messages.push_back({link, call.envelope, call.body.Share(), CallId(id), CallId()});
  }
  std::sort(messages.begin(), messages.end(),
            [](const Outgoing& a, const Outgoing& b) { return a.call_id < b.call_id; });
  return messages;
}

void CallTable::FreeWindow(const PendingCall& call) {
  if (call.window != nullptr) call.window->fetch_sub(1);
}

void CallTable::Resolve(PendingCall call, StatusOr<Value> result) {
  FreeWindow(call);
  if (call.fail) return call.fail(result.status());
  call.promise->Set(std::move(result));
}

}  // namespace packcast::internal
