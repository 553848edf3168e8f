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

 private:
  explicit ControlClient(ActorRef coordinator) : coordinator_(std::move(coordinator)) {}
  ActorRef coordinator_;
};

}  // namespace packcast::examples
