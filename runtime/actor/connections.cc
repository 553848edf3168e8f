#include "runtime/actor/connections.h"

#include <utility>

namespace packcast::internal {

const Connections::Connection* Connections::Accept(int fd, uint64_t id, std::string address,
                                                   Time now) {
  Close(fd);  // its end went unnoticed
  Connection& made = connections_[fd];
  made.fd = fd;
  made.id = id;
  made.address = std::move(address);
  made.number = ++last_number_;
  made.accepted = now;
  Address& there = addresses_[made.address];
  strangers_.emplace(made.number, fd);
  there.strangers.emplace(made.number, fd);
  ++there.count;
  ++staying_;
  const auto last = last_welcome_.find(fd);
  if (last != last_welcome_.end()) {
    // One that is over by now has no id to be known by. One that came before it and was looked at
    // too late seems to be it: so it is remembered.
    const bool is_it = id == 0 || last->second == id;
    if (id == 0 || !is_it) last_welcome_.erase(last);
    if (is_it) Welcome(fd, id);
  }
  // This one is among them, unless it is welcome.
  const bool is_crowded = !made.address.empty() && there.count > limits_.per_address;
  if (is_crowded && !there.strangers.empty()) {
    return &connections_.at(there.strangers.begin()->second);
  }
  if (staying_ > limits_.all) return FirstStranger();
  return nullptr;
}

// It takes no place any more.
void Connections::Uncount(Connection* connection) {
  strangers_.erase({connection->number, connection->fd});
  const auto there = addresses_.find(connection->address);
  there->second.strangers.erase({connection->number, connection->fd});
  if (--there->second.count == 0) addresses_.erase(there);
  --staying_;
}

bool Connections::Close(int fd) {
  const auto found = connections_.find(fd);
  if (found == connections_.end()) return true;
  const bool was_welcome = found->second.is_welcome;
  if (!found->second.is_ending) {
    if (!was_welcome) ++passers_;
    Uncount(&found->second);
  }
  connections_.erase(found);
  return was_welcome;
}

void Connections::Ending(int fd) {
  const auto found = connections_.find(fd);
  if (found == connections_.end() || std::exchange(found->second.is_ending, true)) return;
  Uncount(&found->second);
}

void Connections::Welcome(int fd, uint64_t id) {
  const auto found = connections_.find(fd);
  if (id != 0) last_welcome_[fd] = id;
  if (found == connections_.end()) return;
  // Where there is another one its end is news that waits: should that have been the one which is
  // welcome, it is missed.
  Connection& connection = found->second;
  if (std::exchange(connection.is_welcome, true) || connection.is_ending) return;
  strangers_.erase({connection.number, fd});
  addresses_.at(connection.address).strangers.erase({connection.number, fd});
}

bool Connections::NoteBad(int fd, std::string_view sender, Time now) {
  const auto found = connections_.find(fd);
  if (found == connections_.end() || found->second.is_ending) return false;
  Connection& connection = found->second;
  if (now - connection.bad_since >= kBadTime || connection.bad_sender != sender) {
    connection.bad_sender = sender;
    connection.bad_since = now;
    connection.bad_messages = 0;
  }
  return ++connection.bad_messages > kBadMessages;
}

bool Connections::IsScanned(Time now) {
  if (now - counted_ >= kCountTime) {
    passers_per_second_ = passers_ / ToSeconds(now - counted_);
    counted_ = now;
    passers_ = 0;
    if (passers_per_second_ > kManyPassers) scanned_until_ = now + kScanTime;
  }
  return now < scanned_until_;
}

const Connections::Connection* Connections::FirstStranger() const {
  return strangers_.empty() ? nullptr : &connections_.at(strangers_.begin()->second);
}

std::vector<const Connections::Connection*> Connections::Overdue(Time now) const {
  std::vector<const Connection*> overdue;
  for (const auto& [number, fd] : strangers_) {
    const Connection& stranger = connections_.at(fd);
    if (now - stranger.accepted < limits_.stranger_time) break;  // they are in order
    overdue.push_back(&stranger);
  }
  return overdue;
}

void Connections::Forgive(Duration slept) {
  for (const auto& [number, fd] : strangers_) connections_.at(fd).accepted += slept;
}

std::vector<const Connections::Connection*> Connections::Some(size_t count) {
  std::vector<const Connection*> some;
  auto next = connections_.lower_bound(next_);
  for (; next != connections_.end() && some.size() < count; ++next) some.push_back(&next->second);
  next_ = next == connections_.end() ? 0 : next->first;
  return some;
}

const Connections::Connection* Connections::Find(int fd) const {
  const auto found = connections_.find(fd);
  return found == connections_.end() || found->second.is_ending ? nullptr : &found->second;
}

}  // namespace packcast::internal
