#pragma once

#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "runtime/actor/actor_ref.h"
#include "runtime/actor/arguments.h"
#include "runtime/actor/hosted.h"
#include "runtime/actor/local_call.h"

namespace packcast {

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

// Text may be given as a literal.
template <class T>
Value ArgumentToValue(const T& argument) {
  if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    return Value(std::string_view(argument));
  } else {
    return ToValue(argument);
  }
}

template <class Tuple>
Value ArgumentsToValue(const Tuple& arguments) {
  return std::apply(
      [](const auto&... items) { return Value(ValueArray{ArgumentToValue(items)...}); }, arguments);
}

// A typed tell to an actor of this process.
template <class T, class Method>
struct TypedTell {
  Method method;
  typename MethodTraits<Method>::Arguments arguments;

  void Run(Actor& actor, Context& context) {
    (void)Invoke(static_cast<Hosted<T>&>(actor).object(), context, method, arguments);
  }
  void Drop(const Status&) {}
};

// A typed call to an actor of this process.
template <class T, class Method>
struct TypedCall {
  using Traits = MethodTraits<Method>;
  using Result = typename Traits::Result;
  Method method;
  typename Traits::Arguments arguments;
  LocalCall call;
  Promise<Result> promise;

  void Run(Actor& actor, Context& context) {
    if (!call.Begin()) return;  // it was cancelled, or its deadline has passed
    try {
      Answer(static_cast<Hosted<T>&>(actor).object(), context);
    } catch (const std::exception& error) {  // user code may throw; callers get a Status
      Finish(ThrownError(Name(), error.what()));
    } catch (...) {
      Finish(ThrownError(Name(), "something unknown"));
    }
  }
  void Drop(const Status& why) { Resolve(call, promise, why); }

  void Answer(T& object, Context& context) {
    using Return = typename Traits::Return;
    if constexpr (std::is_void_v<Return>) {
      Invoke(object, context, method, arguments);
      Finish(Result{});
    } else if constexpr (std::is_same_v<Return, Status>) {
      const Status status = Invoke(object, context, method, arguments);
      status.ok() ? Finish(Result{}) : Finish(status);
    } else if constexpr (std::is_same_v<Return, Future<Result>>) {
      Invoke(object, context, method, arguments)
          .Then([call = call, promise = promise](const StatusOr<Result>& result) {
            Resolve(call, promise, AsExecuted(result));
          });
    } else {
      Finish(Invoke(object, context, method, arguments));
    }
  }

  void Finish(StatusOr<Result> result) { Resolve(call, promise, AsExecuted(std::move(result))); }
  // The method has run, whatever became of a call of its own whose status it passes on.
  static StatusOr<Result> AsExecuted(StatusOr<Result> result) {
    return result.ok() ? std::move(result) : result.status().WithOutcome(Outcome::kExecuted);
  }
  static void Resolve(const LocalCall& call, const Promise<Result>& promise,
                      StatusOr<Result> result) {
    if (call.Take()) promise.Set(std::move(result));
  }
  std::string Name() const { return *MethodsOf<T>().NameOf(method); }
};

}  // namespace internal

// Calls a method by its name on the wire, and converts its reply to R (Unit for none).
template <class R, class... Args>
Future<R> CallMethod(const ActorRef& ref, const std::string& method, CallOptions options,
                     const Args&... args) {
  return internal::ConvertReply<R>(
      ref.Call(method, internal::ArgumentsToValue(std::tie(args...)), options), method);
}

// An ActorRef that knows its actor's class. To an actor of the same process its messages go as
// they are: arguments and results are moved, neither encoded nor copied. A small copyable value;
// thread-safe.
template <class T>
class TypedRef {
 public:
  TypedRef() = default;
  explicit TypedRef(ActorRef ref)
      : ref_(std::move(ref)), is_direct_(internal::LocalType(ref_) == MethodTable<T>::Type()) {}
  const ActorRef& ref() const { return ref_; }

  // counter.Call(&Counter::Add, 3): arguments are converted to the method's own types first, as in
  // a direct call. kInvalidArgument: an integer that does not fit.
  template <class Method, class... Args>
  auto Call(Method method, Args&&... args) const {
    return CallWith(CallOptions(), method, std::forward<Args>(args)...);
  }
  // counter.Tell(&Counter::Add, 3): as ActorRef::Tell; what the method returns is dropped.
  template <class Method, class... Args>
  Status Tell(Method method, Args&&... args) const {
    return TellWith(TellOptions(), method, std::forward<Args>(args)...);
  }

  template <class Method, class... Args>
  auto CallWith(CallOptions options, Method method, Args&&... args) const
      -> Future<typename internal::MethodTraits<Method>::Result> {
    using Traits = internal::MethodTraits<Method>;
    using Result = typename Traits::Result;
    const std::string* name = MethodsOf<T>().NameOf(method);
    if (!MayGo<Method>(name, args...)) return MakeReady<Result>(WhyNot<Method>(name, args...));
    typename Traits::Arguments arguments = Gather<Method>(std::forward<Args>(args)...);
    if (is_direct_) return CallDirect(options, method, *name, std::move(arguments));
    return internal::ConvertReply<Result>(
        ref_.Call(*name, internal::ArgumentsToValue(arguments), options), *name);
  }

  template <class Method, class... Args>
  Status TellWith(TellOptions options, Method method, Args&&... args) const {
    const std::string* name = MethodsOf<T>().NameOf(method);
    if (!MayGo<Method>(name, args...)) return WhyNot<Method>(name, args...);
    auto arguments = Gather<Method>(std::forward<Args>(args)...);
    if (!is_direct_) return ref_.Tell(*name, internal::ArgumentsToValue(arguments), options);
    internal::TypedTell<T, Method> tell{method, std::move(arguments)};
    return internal::PushLocal(ref_, internal::Task(std::move(tell)), *name, options.control);
  }

 private:
  template <class Method, class... Args>
  static auto Gather(Args&&... args) {
    using Arguments = typename internal::MethodTraits<Method>::Arguments;
    static_assert(sizeof...(Args) == std::tuple_size_v<Arguments>,
                  "wrong number of arguments for this method");
    if constexpr (sizeof...(Args) == std::tuple_size_v<Arguments>) {
      using Indices = std::index_sequence_for<Args...>;
      constexpr bool kAreArguments = internal::AreArguments<Arguments, Args&&...>(Indices());
      if constexpr (kAreArguments) return Arguments(std::forward<Args>(args)...);
    }
    return Arguments();  // only after an error, so that the compiler has no more to say
  }
  // `name` is null when the class does not list the method. Apart from the error, which a tell
  // should not pay for.
  template <class Method, class... Args>
  static bool MayGo(const std::string* name, const Args&... args) {
    using Arguments = typename internal::MethodTraits<Method>::Arguments;
    if constexpr (sizeof...(Args) == std::tuple_size_v<Arguments>) {
      using Indices = std::index_sequence_for<Args...>;
      return name != nullptr && internal::AllFit<Arguments>(Indices(), args...);
    }
    return name != nullptr;
  }
  template <class Method, class... Args>
  static Status WhyNot(const std::string* name, const Args&... args) {
    if (name == nullptr) return NotListed();
    using Arguments = typename internal::MethodTraits<Method>::Arguments;
    if constexpr (sizeof...(Args) == std::tuple_size_v<Arguments>) {
      return internal::CheckAllFit<Arguments>(*name, std::index_sequence_for<Args...>(), args...);
    }
    return OkStatus();  // only after an error of the compiler
  }
  static Status NotListed() {
    std::string listed;
    for (const auto& method : MethodsOf<T>().catalog().methods) listed += " " + method.name;
    return Unimplemented("the class does not list this method in Methods(); it lists:" + listed)
        .WithOutcome(Outcome::kNotExecuted);
  }

  template <class Method, class Arguments>
  auto CallDirect(const CallOptions& options, Method method, const std::string& name,
                  Arguments arguments) const {
    using Result = typename internal::MethodTraits<Method>::Result;
    const Promise<Result> promise(internal::CallbacksOf(ref_));
    const StatusOr<internal::LocalCall> call = internal::BeginLocalCall(
        ref_, name, options, [promise](const Status& why) { promise.Set(why); });
    if (!call.ok()) return MakeReady<Result>(call.status());
    promise.OnCancel([call = *call] { call.Cancel(); });
    internal::TypedCall<T, Method> task{method, std::move(arguments), *call, promise};
    // What is refused has been answered.
    (void)internal::PushLocal(ref_, internal::Task(std::move(task)), name, options.control);
    return promise.future();
  }

  ActorRef ref_;
  bool is_direct_ = false;
};

}  // namespace packcast
