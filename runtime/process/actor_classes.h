#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "protocol/value.h"
#include "runtime/actor/new_actor.h"

namespace packcast {

// The actor classes that a child process can spawn on request, by name. Built before the child
// runs, then read only.
class ActorClasses {
 public:
  // `T` as for NewActor, made from arguments of the types `Args` (convertible, see convert.h).
  template <class T, class... Args>
  ActorClasses& Add(std::string name) {
    std::string constructor = "constructor of " + name;
    makers_[std::move(name)] = [constructor](const Value& body) -> StatusOr<ActorFactory> {
      std::tuple<Args...> arguments;
      PC_RETURN_IF_ERROR(internal::ReadArguments(constructor, body, &arguments,
                                                 std::index_sequence_for<Args...>()));
      return ActorFactory([arguments]() -> std::unique_ptr<Actor> {
        return std::apply(
            [](const Args&... items) { return std::make_unique<Hosted<T>>(items...); }, arguments);
      });
    };
    return *this;
  }

  // What makes actors of the class from the array `arguments`. Errors: kNotFound with the names
  // that there are; kInvalidArgument.
  StatusOr<ActorFactory> Factory(const std::string& name, const Value& arguments) const;

 private:
  std::map<std::string, std::function<StatusOr<ActorFactory>(const Value&)>> makers_;
};

}  // namespace packcast
