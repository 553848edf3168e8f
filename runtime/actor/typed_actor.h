#pragma once

#include <memory>
#include <string>
#include <utility>

#include "runtime/actor/actor.h"
#include "runtime/actor/actor_ref.h"
#include "runtime/actor/method_table.h"

namespace packcast {

// An ordinary class as an actor. It needs
//   static void Methods(MethodTable<T>& table) { table.Add("add", &T::Add).Add("get", &T::Get); }
// and may override OnStart, OnTimer, OnPeer and OnStop:  class Counter : public TypedActor<Counter>
template <class T>
class TypedActor : public Actor {
 public:
  static const MethodTable<T>& Table() {
    static const MethodTable<T> table = [] {
      MethodTable<T> made;
      T::Methods(made);
      return made;
    }();
    return table;
  }

  void OnMessage(Context& context, Message message) override {
    Table().Dispatch(static_cast<T&>(*this), context, std::move(message));
  }
};

namespace internal {
template <class R>
Future<R> ConvertReply(const Future<Value>& future, const std::string& method) {
  return Map<R>(future, [method](const StatusOr<Value>& reply) -> StatusOr<R> {
    if (!reply.ok()) return reply.status();
    R result{};
    const Status status = FromValue(*reply, &result);
    if (status.ok()) return result;
    return status.WithContext("reply of method \"" + method + "\"").WithOutcome(Outcome::kExecuted);
  });
}
}  // namespace internal

// Calls a method by its name on the wire, and converts its reply to R (Unit for none).
template <class R, class... Args>
Future<R> CallMethod(const ActorRef& ref, const std::string& method, CallOptions options,
                     const Args&... args) {
  ValueArray body;
  body.reserve(sizeof...(args));
  (body.push_back(ToValue(args)), ...);
  return internal::ConvertReply<R>(ref.Call(method, std::move(body), options), method);
}

// An ActorRef that knows its actor's class. A small copyable value; thread-safe.
template <class T>
class TypedRef {
 public:
  TypedRef() = default;
  explicit TypedRef(ActorRef ref) : ref_(std::move(ref)) {}
  const ActorRef& ref() const { return ref_; }

  // counter.Call(&Counter::Add, 3): arguments are converted to the method's own types first.
  template <class Method, class... Args>
  auto Call(Method method, Args&&... args) const {
    return CallWith(CallOptions(), method, std::forward<Args>(args)...);
  }

  template <class Method, class... Args>
  auto CallWith(CallOptions options, Method method, Args&&... args) const
      -> Future<typename internal::MethodTraits<Method>::Result> {
    using Traits = internal::MethodTraits<Method>;
    static_assert(sizeof...(Args) == std::tuple_size_v<typename Traits::Arguments>,
                  "wrong number of arguments for this method");
    const std::string name(T::Table().NameOf(method));
    if (name.empty()) {
      return MakeReady<typename Traits::Result>(
          Unimplemented("this method is not in its class's method table")
              .WithOutcome(Outcome::kNotExecuted));
    }
    typename Traits::Arguments converted(std::forward<Args>(args)...);
    ValueArray body =
        std::apply([](const auto&... items) { return ValueArray{ToValue(items)...}; }, converted);
    return internal::ConvertReply<typename Traits::Result>(
        ref_.Call(name, std::move(body), options), name);
  }

 private:
  ActorRef ref_;
};

}  // namespace packcast
