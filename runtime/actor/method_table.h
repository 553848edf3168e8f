#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "protocol/status.h"
#include "protocol/value.h"
#include "runtime/actor/actor.h"
#include "runtime/actor/catalog.h"
#include "runtime/actor/convert.h"
#include "runtime/actor/future.h"

namespace packcast {

namespace internal {

// What a caller gets for a method's return type.
template <class R>
struct ResultOf {
  using Type = R;
};
template <>
struct ResultOf<void> {
  using Type = Unit;
};
template <>
struct ResultOf<Status> {
  using Type = Unit;
};
template <class R>
struct ResultOf<StatusOr<R>> {
  using Type = R;
};
template <class R>
struct ResultOf<Future<R>> {
  using Type = R;
};

template <class R>
void SendResult(Responder responder, const R& result) {
  responder.Reply(ToValue(result));
}
inline void SendResult(Responder responder, const Status& status) {
  if (status.ok()) return responder.Reply(Value());
  // The method has run, whatever became of a call of its own whose status it passes on.
  responder.Fail(status.WithOutcome(Outcome::kExecuted));
}
template <class R>
void SendResult(Responder responder, const StatusOr<R>& result) {
  if (result.ok()) return responder.Reply(ToValue(*result));
  SendResult(std::move(responder), result.status());
}
template <class R>
void SendResult(Responder responder, const Future<R>& future) {
  auto shared = std::make_shared<Responder>(std::move(responder));
  future.Then([shared](const StatusOr<R>& result) { SendResult(std::move(*shared), result); });
}

// Takes a member function pointer apart: an optional leading Context&, then wire arguments.
template <class Class, bool kHasContext, class R, class... Args>
struct MethodShape {
  using Owner = Class;
  using Return = R;
  using Result = typename ResultOf<R>::Type;
  using Arguments = std::tuple<std::decay_t<Args>...>;
  static constexpr bool has_context = kHasContext;
  // Else it has one, but not as its first parameter.
  static constexpr bool has_context_first = !(std::is_same_v<std::decay_t<Args>, Context> || ...);
  // Else one of them is a T&, which nothing could be written to.
  static constexpr bool only_reads_arguments =
      ((!std::is_lvalue_reference_v<Args> || std::is_const_v<std::remove_reference_t<Args>> ||
        std::is_same_v<std::decay_t<Args>, Context>)&&...);
};
// Of what is no method. A typed call of it does not compile.
template <class Method>
struct MethodTraits : MethodShape<void, false, void> {};
template <class C, class R, class... Args>
struct MethodTraits<R (C::*)(Args...)> : MethodShape<C, false, R, Args...> {};
template <class C, class R, class... Args>
struct MethodTraits<R (C::*)(Args...) const> : MethodShape<C, false, R, Args...> {};
template <class C, class R, class... Args>
struct MethodTraits<R (C::*)(Context&, Args...)> : MethodShape<C, true, R, Args...> {};
template <class C, class R, class... Args>
struct MethodTraits<R (C::*)(Context&, Args...) const> : MethodShape<C, true, R, Args...> {};
// `noexcept` is of the type.
template <class C, class R, class... Args>
struct MethodTraits<R (C::*)(Args...) noexcept> : MethodTraits<R (C::*)(Args...)> {};
template <class C, class R, class... Args>
struct MethodTraits<R (C::*)(Args...) const noexcept> : MethodTraits<R (C::*)(Args...)> {};
template <class C, class R, class... Args>
struct MethodTraits<R (C::*)(Context&, Args...) noexcept>
    : MethodTraits<R (C::*)(Context&, Args...)> {};
template <class C, class R, class... Args>
struct MethodTraits<R (C::*)(Context&, Args...) const noexcept>
    : MethodTraits<R (C::*)(Context&, Args...)> {};

// Whether it can be called from afar; says what is in the way.
template <class Method>
constexpr bool IsMethod() {
  using Traits = MethodTraits<Method>;
  using Arguments = typename Traits::Arguments;
  constexpr bool kIsMember = std::is_member_function_pointer_v<Method>;
  static_assert(kIsMember, "a method is a non-static member function");
  static_assert(Traits::has_context_first, "Context& must come first, before the arguments");
  static_assert(Traits::only_reads_arguments,
                "an argument of this method is a T&: take it by value or const reference");
  constexpr bool kReads = Traits::has_context_first && Traits::only_reads_arguments;
  constexpr bool kTravel =
      !kReads || AreWireTypes<Arguments>(std::make_index_sequence<std::tuple_size_v<Arguments>>());
  static_assert(kTravel,
                "an argument of this method cannot travel: see convert.h for what can; a struct "
                "needs a Fields visitor");
  constexpr bool kAnswers = WireType<typename Traits::Result>;
  static_assert(kAnswers,
                "the result of this method cannot travel: see convert.h for what can; a struct "
                "needs a Fields visitor");
  return kIsMember && kReads && kTravel && kAnswers;
}

template <class Tuple, size_t... kIndex>
std::vector<std::string> TypeNames(std::index_sequence<kIndex...>) {
  return {WireTypeName<std::tuple_element_t<kIndex, Tuple>>()...};
}

// Argument errors, apart from the templates: they name method, index, expected and got.
Status CheckArgumentCount(std::string_view method, size_t expected, const Value& body);
Status ArgumentError(std::string_view method, size_t index, const Status& error);
Status ThrownError(std::string_view method, std::string_view what);

template <class Tuple, size_t... kIndex>
Status ReadArguments(std::string_view method, const Value& body, [[maybe_unused]] Tuple* out,
                     std::index_sequence<kIndex...>) {
  PC_RETURN_IF_ERROR(CheckArgumentCount(method, sizeof...(kIndex), body));
  Status status;
  [[maybe_unused]] const auto read = [&](size_t index, auto* argument) {
    const Status error = FromValue((*body.AsArray())[index], argument);
    if (!error.ok() && status.ok()) status = ArgumentError(method, index, error);
  };
  (read(kIndex, &std::get<kIndex>(*out)), ...);
  return status;
}

// Calls `method` with the arguments moved into it.
template <class T, class Method, class Arguments>
decltype(auto) Invoke(T& object, Context& context, Method method, Arguments& arguments) {
  return std::apply(
      [&](auto&... items) -> decltype(auto) {
        if constexpr (MethodTraits<Method>::has_context) {
          return (object.*method)(context, std::move(items)...);
        } else {
          return (object.*method)(std::move(items)...);
        }
      },
      arguments);
}

}  // namespace internal

struct MethodOptions {
  // The concurrency group that runs it (SpawnOptions::groups); "": the default one.
  std::string group = {};
  // One line for people: $describe tells it.
  std::string about = {};
};

// The methods of a class that may be called from afar, by their names on the wire (stable:
// append, never rename). Built once, then read by any thread.
template <class T>
class MethodTable {
 public:
  MethodTable() { catalog_.type = &kType; }

  // A method takes convertible arguments (see convert.h), optionally after a Context&, and returns
  // void, R, Status, StatusOr<R> or Future<R>.
  template <class Method>
  MethodTable& Add(std::string name, Method method, MethodOptions options = {}) {
    // The compiler goes on after what is wrong: it shall say nothing else.
    if constexpr (internal::IsMethod<Method>()) {
      using Traits = internal::MethodTraits<Method>;
      using Arguments = typename Traits::Arguments;
      using Indices = std::make_index_sequence<std::tuple_size_v<Arguments>>;
      catalog_.methods.push_back({name, std::move(options.group), std::move(options.about),
                                  internal::TypeNames<Arguments>(Indices()),
                                  WireTypeName<typename Traits::Result>()});
      entries_.push_back(std::make_unique<Entry<Method>>(std::move(name), method));
    }
    return *this;
  }

  const MethodCatalog& catalog() const { return catalog_; }
  // Identifies T: MethodCatalog::type of its actors.
  static const void* Type() { return &kType; }

  // The name under which `method` was added; null when it was not.
  template <class Method>
  const std::string* NameOf(Method method) const {
    for (const auto& entry : entries_) {
      if (entry->kind != &kKind<Method>) continue;
      if (static_cast<const Entry<Method>*>(entry.get())->method == method) return &entry->name;
    }
    return nullptr;
  }

  // Calls the method that `message` names, and answers it.
  void Dispatch(T& object, Context& context, Message message) const {
    for (const auto& entry : entries_) {
      if (entry->name == message.method) return entry->Call(object, context, std::move(message));
    }
    message.responder.Fail(
        Unimplemented("no method \"" + message.method + "\"; there are: " + Names())
            .WithOutcome(Outcome::kNotExecuted));
  }

  // "add, get, reset".
  std::string Names() const {
    std::string names;
    for (const auto& entry : entries_) names += (names.empty() ? "" : ", ") + entry->name;
    return names;
  }

 private:
  struct BaseEntry {
    BaseEntry(std::string n, const void* k) : name(std::move(n)), kind(k) {}
    virtual ~BaseEntry() = default;
    virtual void Call(T& object, Context& context, Message message) const = 0;
    const std::string name;
    const void* const kind;  // tells which Entry<Method> it is
  };
  // Only their addresses matter.
  static constexpr char kType = 0;
  template <class Method>
  static constexpr char kKind = 0;

  template <class Method>
  struct Entry final : BaseEntry {
    using Traits = internal::MethodTraits<Method>;
    using Arguments = typename Traits::Arguments;
    Entry(std::string n, Method m) : BaseEntry(std::move(n), &kKind<Method>), method(m) {}

    void Call(T& object, Context& context, Message message) const override {
      Arguments arguments;
      const Status status =
          internal::ReadArguments(this->name, message.body, &arguments,
                                  std::make_index_sequence<std::tuple_size_v<Arguments>>());
      if (!status.ok()) return message.responder.Fail(status.WithOutcome(Outcome::kNotExecuted));
      try {
        Answer(object, context, arguments, &message.responder);
      } catch (const std::exception& error) {  // user code may throw; callers get a Status
        message.responder.Fail(internal::ThrownError(this->name, error.what()));
      } catch (...) {
        message.responder.Fail(internal::ThrownError(this->name, "something unknown"));
      }
    }

    void Answer(T& object, Context& context, Arguments& arguments, Responder* responder) const {
      if constexpr (std::is_void_v<typename Traits::Return>) {
        internal::Invoke(object, context, method, arguments);
        responder->Reply(Value());
      } else {
        const auto result = internal::Invoke(object, context, method, arguments);
        internal::SendResult(std::move(*responder), result);
      }
    }
    const Method method;
  };

  MethodCatalog catalog_;
  std::vector<std::unique_ptr<BaseEntry>> entries_;
};

}  // namespace packcast
