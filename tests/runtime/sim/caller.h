#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "runtime/actor/new_actor.h"
#include "tests/runtime/sim/servant.h"
#include "tests/runtime/sim/world.h"

namespace packcast::rtsim {

// Sends messages of all kinds to servants here and elsewhere: from a thread of its process, or from
// inside an actor, one after the other.
class Caller : public std::enable_shared_from_this<Caller> {
 public:
  explicit Caller(Life* life);
  // Connects where it must, and sends a few messages.
  void Turn();
  Duration NextPause();

 private:
  using Target = std::pair<std::string, std::string>;  // host, servant
  struct Slot {
    ActorRef ref;
    bool is_connecting = false;
  };

  void Connect(const Target& target, Slot* slot);
  void Send(const Target& target, const ActorRef& ref);
  Job* MakeJob(const Target& target);
  void Tell(Job* job, const ActorRef& ref, const std::string& padding);
  void Call(Job* job, const ActorRef& ref, const std::string& padding);
  void OnResult(Job* job, const Target& target, const StatusOr<int64_t>& result);
  void Lose(const Target& target, const Status& status);

  Life* const life_;
  World& world_;
  const int number_;
  std::map<Target, Slot> slots_;
  std::vector<Future<int64_t>> open_;
};

// A Caller as an actor.
class Client {
 public:
  explicit Client(Life* life) : life_(life), caller_(std::make_shared<Caller>(life)) {}
  static void Methods(MethodTable<Client>& table) { table.Add("nothing", &Client::Nothing); }
  void Nothing() {}
  void OnStart(Context& context) { OnTimer(context, TimerId()); }
  void OnTimer(Context& context, TimerId) {
    if (life_->world().is_quiet) return;
    caller_->Turn();
    context.SetTimer(context.now() + caller_->NextPause());
  }

 private:
  Life* const life_;
  const std::shared_ptr<Caller> caller_;
};

}  // namespace packcast::rtsim
