#pragma once

#include <concepts>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include "runtime/actor/actor.h"
#include "runtime/actor/method_table.h"

namespace packcast {

namespace internal {

// A class without a member of a hook's name, a private one neither: with one, both bases of Both
// have that name, and it is ambiguous. Of a final class nothing can be said.
struct HookNames {
  void OnStart();
  void OnTimer();
  void OnPeer();
  void OnStop();
};
template <class T>
struct Both : T, HookNames {};

template <class T>
concept LacksOnStart = std::is_final_v<T> || requires {
  &Both<T>::OnStart;
};
template <class T>
concept LacksOnTimer = std::is_final_v<T> || requires {
  &Both<T>::OnTimer;
};
template <class T>
concept LacksOnPeer = std::is_final_v<T> || requires {
  &Both<T>::OnPeer;
};
template <class T>
concept LacksOnStop = std::is_final_v<T> || requires {
  &Both<T>::OnStop;
};

template <class T>
concept CallsOnStart = requires(T& t, Context& context) {
  t.OnStart(context);
};
template <class T>
concept CallsOnTimer = requires(T& t, Context& context, TimerId id) {
  t.OnTimer(context, id);
};
template <class T>
concept CallsOnPeer = requires(T& t, Context& context, const PeerEvent& event) {
  t.OnPeer(context, event);
};
template <class T>
concept CallsOnStop = requires(T& t, Context& context) {
  t.OnStop(context);
};

}  // namespace internal

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
  static_assert(internal::CallsOnStart<T> || internal::LacksOnStart<T>,
                "OnStart would never be called: it must be public and take (Context&)");
  static_assert(internal::CallsOnTimer<T> || internal::LacksOnTimer<T>,
                "OnTimer would never be called: it must be public and take (Context&, TimerId)");
  static_assert(internal::CallsOnPeer<T> || internal::LacksOnPeer<T>,
                "OnPeer would never be called: it must be public and take (Context&, const "
                "PeerEvent&)");
  static_assert(internal::CallsOnStop<T> || internal::LacksOnStop<T>,
                "OnStop would never be called: it must be public and take (Context&)");

 public:
  template <class... Args>
  explicit Hosted(Args&&... args) : object_(std::forward<Args>(args)...) {}

  T& object() { return object_; }

  void OnMessage(Context& context, Message message) override {
    MethodsOf<T>().Dispatch(object_, context, std::move(message));
  }
  void OnStart(Context& context) override {
    if constexpr (internal::CallsOnStart<T>) object_.OnStart(context);
  }
  void OnTimer(Context& context, TimerId timer) override {
    if constexpr (internal::CallsOnTimer<T>) object_.OnTimer(context, timer);
  }
  void OnPeer(Context& context, const PeerEvent& event) override {
    if constexpr (internal::CallsOnPeer<T>) object_.OnPeer(context, event);
  }
  void OnStop(Context& context) override {
    if constexpr (internal::CallsOnStop<T>) object_.OnStop(context);
  }
  const MethodCatalog* Catalog() const override { return &MethodsOf<T>().catalog(); }

 private:
  T object_;
};

}  // namespace packcast
