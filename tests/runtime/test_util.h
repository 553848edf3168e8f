#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocol/time.h"
#include "runtime/actor/new_actor.h"
#include "runtime/actor/runtime.h"

namespace packcast::testing {

// How long a test waits for something that must happen; generous, for sanitizers on busy machines.
inline constexpr Duration kPatience = Seconds(30);

// Things that happened, in order; any thread adds, the test waits. Thread-safe.
template <class T>
class Record {
 public:
  void Add(T item) {
    std::lock_guard lock(mutex_);
    items_.push_back(std::move(item));
    changed_.notify_all();
  }
  // Waits until an item satisfies `wanted`; false after kPatience.
  bool WaitFor(const std::function<bool(const T&)>& wanted) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] {
      for (const T& item : items_) {
        if (wanted(item)) return true;
      }
      return false;
    });
  }
  bool WaitForCount(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return items_.size() >= count; });
  }
  std::vector<T> items() {
    std::lock_guard lock(mutex_);
    return items_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<T> items_;
};

// A gate that handlers wait at until the test opens it.
class Gate {
 public:
  void Open() {
    std::lock_guard lock(mutex_);
    is_open_ = true;
    opened_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    opened_.wait_for(lock, kPatience, [this] { return is_open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool is_open_ = false;
};

// An actor made of functions.
class FunctionActor : public Actor {
 public:
  std::function<void(Context&)> on_start;
  std::function<void(Context&, Message)> on_message;
  std::function<void(Context&, TimerId)> on_timer;
  std::function<void(Context&, const PeerEvent&)> on_peer;
  std::function<void(Context&)> on_stop;
  std::optional<MethodCatalog> catalog;

  const MethodCatalog* Catalog() const override { return catalog ? &*catalog : nullptr; }
  void OnStart(Context& context) override {
    if (on_start) on_start(context);
  }
  void OnMessage(Context& context, Message message) override {
    if (on_message) on_message(context, std::move(message));
  }
  void OnTimer(Context& context, TimerId timer) override {
    if (on_timer) on_timer(context, timer);
  }
  void OnPeer(Context& context, const PeerEvent& event) override {
    if (on_peer) on_peer(context, event);
  }
  void OnStop(Context& context) override {
    if (on_stop) on_stop(context);
  }
};

inline std::unique_ptr<FunctionActor> OnMessages(std::function<void(Context&, Message)> handler) {
  auto actor = std::make_unique<FunctionActor>();
  actor->on_message = std::move(handler);
  return actor;
}

// Answers every call with its own body.
inline std::unique_ptr<FunctionActor> Echo() {
  return OnMessages(
      [](Context&, Message message) { message.responder.Reply(std::move(message.body)); });
}

inline std::unique_ptr<Runtime> StartRuntime(const std::string& name, RuntimeOptions options = {}) {
  options.name = name;
  return std::move(Runtime::Start(options)).value();
}

// Liveness settings that do not raise false alarms on a starved machine.
inline RuntimeOptions Patient() {
  RuntimeOptions options;
  options.suspect_after = Seconds(20);
  options.unreachable_after = Seconds(25);
  return options;
}

}  // namespace packcast::testing
