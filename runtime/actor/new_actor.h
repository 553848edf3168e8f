#pragma once

#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "runtime/actor/hosted.h"
#include "runtime/actor/runtime.h"
#include "runtime/actor/typed_ref.h"

namespace packcast {

namespace internal {
// A name for an actor without one, unique in this process: "actor-7".
std::string NextActorName();
}  // namespace internal

// Spawns an actor of class T, see NewActor. Each setter returns the builder.
template <class T>
class ActorBuilder {
 public:
  ActorBuilder(Runtime& runtime, ActorFactory factory)
      : runtime_(&runtime), factory_(std::move(factory)) {}

  // Unique in the process, and in the namespace where there is one. Without: "actor-" and a number.
  ActorBuilder& Name(std::string name) { return name_ = std::move(name), *this; }
  // Precedes the name: the actor is "rollout/engine-0" for others.
  ActorBuilder& Namespace(std::string space) { return namespace_ = std::move(space), *this; }
  // It outlives the actor that spawns it.
  ActorBuilder& Detached() { return options_.detached = true, *this; }
  // Lives after failures, each with a new object of the same arguments; -1: any number.
  ActorBuilder& MaxRestarts(int most) { return options_.restart.max_restarts = most, *this; }
  ActorBuilder& Restart(RestartOptions restart) { return options_.restart = restart, *this; }
  // Messages that may wait in each group.
  ActorBuilder& Window(size_t messages) { return options_.mailbox_messages = messages, *this; }
  // Messages outside of groups that may be handled at once.
  ActorBuilder& Concurrency(int count) { return options_.concurrency = count, *this; }
  // A concurrency group, see MethodOptions::group.
  ActorBuilder& Group(std::string name, int concurrency = 1) {
    return options_.groups.push_back({std::move(name), concurrency}), *this;
  }
  ActorBuilder& ConcurrentControl() { return options_.concurrent_control = true, *this; }
  ActorBuilder& Label(std::string key, std::string value) {
    return options_.labels[std::move(key)] = std::move(value), *this;
  }

  // Errors: as Runtime::Spawn.
  StatusOr<TypedRef<T>> Spawn() const {
    PC_ASSIGN_OR_RETURN(ActorRef ref, runtime_->Spawn(FullName(), factory_, options_));
    return TypedRef<T>(std::move(ref));
  }

  // The actor of this name, whoever has spawned it, or else a new one. Errors: as Runtime::Spawn;
  // kFailedPrecondition: it is of another class.
  StatusOr<TypedRef<T>> GetOrCreate() const {
    constexpr int kTries = 100;  // it may come and go meanwhile
    const std::string name = FullName();
    StatusOr<ActorRef> ref = NotFound("no actor \"" + name + "\"");
    for (int k = 0; k < kTries && !ref.ok(); ++k) {
      ref = runtime_->Find(name);
      if (!ref.ok()) ref = runtime_->Spawn(name, factory_, options_);
      if (!ref.ok() && ref.status().code() != StatusCode::kAlreadyExists) return ref.status();
    }
    if (!ref.ok()) return ref.status();
    if (internal::LocalType(*ref) != MethodTable<T>::Type()) {
      return FailedPrecondition("actor \"" + name + "\" exists and is of another class");
    }
    return TypedRef<T>(*std::move(ref));
  }

 private:
  std::string FullName() const {
    const std::string name = name_.empty() ? internal::NextActorName() : name_;
    return namespace_.empty() ? name : namespace_ + "/" + name;
  }

  Runtime* runtime_;
  ActorFactory factory_;
  std::string name_;
  std::string namespace_;
  SpawnOptions options_;
};

// An actor of class T (see Hosted), made from `args`, of which each life gets copies:
//   auto counter = NewActor<Counter>(runtime, 5).Name("counter").MaxRestarts(3).Spawn();
template <class T, class... Args>
ActorBuilder<T> NewActor(Runtime& runtime, Args... args) {
  static_assert((std::is_copy_constructible_v<Args> && ...),
                "every life is made from the arguments: pass what cannot be copied by shared_ptr");
  return ActorBuilder<T>(runtime, [args...]() -> std::unique_ptr<Actor> {
    return std::make_unique<Hosted<T>>(args...);
  });
}

}  // namespace packcast
