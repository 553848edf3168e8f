#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "protocol/status.h"
#include "protocol/time.h"
#include "protocol/value.h"
#include "runtime/actor/runtime.h"

namespace packcast::examples {

// A C++ client of a coordinator's control calls and events, as a script would be. Thread-safe.
class ControlClient {
 public:
  // Connects and subscribes. `on_event` runs on the runtime's executor.
  static StatusOr<std::unique_ptr<ControlClient>> Connect(
      Runtime* runtime, const std::string& endpoint, std::function<void(const Value&)> on_event,
      Duration timeout);

  Future<Value> Call(const std::string& method, ValueMap arguments, Duration deadline) const;
  // Waits until `on_event` has had every event that came before: an answer overtakes them.
  void Flush(Duration timeout) const;

 private:
  ControlClient(ActorRef coordinator, ActorRef events)
      : coordinator_(std::move(coordinator)), events_(std::move(events)) {}
  ActorRef coordinator_;
  ActorRef events_;
};

}  // namespace packcast::examples
