#pragma once

#include <concepts>
#include <memory>
#include <tuple>
#include <utility>

#include "runtime/actor/actor.h"
#include "runtime/actor/method_table.h"

namespace packcast {

// The methods of `T`, as T::Methods lists them.
template <class T>
const MethodTable<T>& MethodsOf() {
  static const MethodTable<T> table = [] {
    MethodTable<T> made;
    T::Methods(made);
    return made;
  }();
  return table;
}

// An ordinary class as an actor: what Spawn makes of it. `T` needs
//   static void Methods(MethodTable<T>& table) { table.Add("add", &T::Add).Add("get", &T::Get); }
// and may have any of OnStart(Context&), OnTimer(Context&, TimerId), OnPeer(Context&, const
// PeerEvent&) and OnStop(Context&); see Actor for what they mean.
template <class T>
class Hosted final : public Actor {
 public:
  template <class... Args>
  explicit Hosted(Args&&... args) : object_(std::forward<Args>(args)...) {}

  T& object() { return object_; }

  void OnMessage(Context& context, Message message) override {
    MethodsOf<T>().Dispatch(object_, context, std::move(message));
  }
  void OnStart(Context& context) override {
    if constexpr (requires(T & t) { t.OnStart(context); }) object_.OnStart(context);
  }
  void OnTimer(Context& context, TimerId timer) override {
    if constexpr (requires(T & t) { t.OnTimer(context, timer); }) object_.OnTimer(context, timer);
  }
  void OnPeer(Context& context, const PeerEvent& event) override {
    if constexpr (requires(T & t) { t.OnPeer(context, event); }) object_.OnPeer(context, event);
  }
  void OnStop(Context& context) override {
    if constexpr (requires(T & t) { t.OnStop(context); }) object_.OnStop(context);
  }
  const MethodCatalog* Catalog() const override { return &MethodsOf<T>().catalog(); }

 private:
  T object_;
};

}  // namespace packcast
