#pragma once

#include <deque>
#include <mutex>
#include <utility>

#include "protocol/value.h"
#include "runtime/actor/actor_ref.h"

namespace packcast {

// Events from a member's other threads (data, user) for its actor: put here, then the actor is
// told to look. Thread-safe. Bounded by the machines: each effect has one answer.
template <class Event>
class LocalInbox {
 public:
  // The method of the tell that means "look"; harmless from anybody.
  static constexpr const char* kMethod = "local";

  // Before the first Post of another thread.
  void Bind(ActorRef self) { self_ = std::move(self); }

  void Post(Event event) {
    {
      std::lock_guard lock(mutex_);
      events_.push_back(std::move(event));
    }
    // Fails only when the actor has stopped, and then nobody needs the event.
    (void)self_.Tell(kMethod, Value(), TellOptions{.control = false});
  }

  std::deque<Event> Take() {
    std::lock_guard lock(mutex_);
    return std::exchange(events_, {});
  }

 private:
  std::mutex mutex_;
  std::deque<Event> events_;
  ActorRef self_;
};

}  // namespace packcast
