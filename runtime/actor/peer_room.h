#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "protocol/limits.h"

namespace packcast::internal {

struct Link;

// What all connections with one life of a peer share, those that were and those that are: what it
// takes of this process, and by which of them messages to it go. Any thread, but for `links`.
struct PeerRoom {
  std::atomic<uint32_t> serving{0};  // its calls without an answer
  std::atomic<uint32_t> held{0};     // its messages that wait here, or are being handled
  std::atomic<size_t> held_bytes{0};
  std::atomic<size_t> owed_bytes{0};       // of byte ranges in replies that wait to be sent to it
  std::vector<std::weak_ptr<Link>> links;  // to it; the reactor's thread only

  // Takes room for a message of the peer; false when too many wait here.
  bool Hold(size_t bytes) {
    const bool has_room = held.fetch_add(1) < limits::kMailboxMessages;
    const bool has_bytes = held_bytes.fetch_add(bytes) + bytes <= limits::kQueuedBytes;
    if (has_room && has_bytes) return true;
    LetGo(bytes);
    return false;
  }
  void LetGo(size_t bytes) {
    held.fetch_sub(1);
    held_bytes.fetch_sub(bytes);
  }

  // Messages may go by `link`: the peer has a session there, and knows it.
  void AddWay(const std::shared_ptr<Link>& link);
  // The session is over; the peer may have others.
  void RemoveWay(const Link* link);
  // By which link a message goes whose reference was made with `own`. All go by the same one, as
  // long as its connection stands: else those of one caller, which may have come by its references
  // in several ways, would overtake each other.
  std::shared_ptr<Link> WayOf(const std::shared_ptr<Link>& own);

 private:
  std::atomic<bool> has_choice_{false};  // there was more than one way
  std::mutex mutex_;
  // Guarded by mutex_. The first that is connected is taken.
  std::vector<std::weak_ptr<Link>> ways_;
};

// The room that a peer's message has taken here: given back when this goes. Movable.
class HeldRoom {
 public:
  HeldRoom() = default;
  // Which it has taken, by Hold.
  HeldRoom(std::shared_ptr<PeerRoom> room, size_t bytes) : room_(std::move(room)), bytes_(bytes) {}
  HeldRoom(HeldRoom&&) noexcept = default;
  HeldRoom& operator=(HeldRoom&& other) noexcept {
    std::swap(room_, other.room_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~HeldRoom() {
    if (room_ != nullptr) room_->LetGo(bytes_);
  }

 private:
  std::shared_ptr<PeerRoom> room_;
  size_t bytes_ = 0;
};

// Bytes that a counter has: taken from it again when this goes. Movable.
class TakenBytes {
 public:
  using Counter = std::shared_ptr<std::atomic<size_t>>;

  TakenBytes() = default;
  // Which were added to it.
  TakenBytes(Counter counter, size_t bytes) : counter_(std::move(counter)), bytes_(bytes) {}
  TakenBytes(TakenBytes&&) noexcept = default;
  TakenBytes& operator=(TakenBytes&& other) noexcept {
    std::swap(counter_, other.counter_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~TakenBytes() {
    if (counter_ != nullptr) counter_->fetch_sub(bytes_);
  }

 private:
  Counter counter_;
  size_t bytes_ = 0;
};

}  // namespace packcast::internal
