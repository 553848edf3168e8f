#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/actor/actor_ref.h"
#include "runtime/actor/future.h"
#include "tests/runtime/sim/world.h"

namespace packcast::rtsim {

// Sends messages of all kinds to actors here and elsewhere: from a thread of its process, or from
// inside of an actor, one after the other.
class Caller : public std::enable_shared_from_this<Caller> {
 public:
  explicit Caller(Life* life);
  // Connects where it must, and sends a few messages, or does something else to their actor.
  void Turn();
  Duration NextPause();
  // Of some actor that it knows; or not valid().
  ActorRef AnyRef();
  // One that is equal to `ref`, which came with a message: that, or one that it connected for.
  ActorRef AnyLike(const ActorRef& ref);

  // A message of any kind, or of this one.
  Job* NewJob(const ActorRef& ref);
  // Its result; not valid() for a tell.
  Future<int64_t> Send(Job* job, const ActorRef& ref);

 private:
  struct Slot {
    ActorRef ref;
    bool is_connecting = false;
  };

  std::map<std::string, Slot>::iterator AnySlot();
  void Connect(const std::string& host, const std::string& actor, Slot* slot);
  void Kill(const ActorRef& ref);
  void Flood(const ActorRef& ref);
  Lineage* LocalOf(const ActorRef& ref) const;
  Status Tell(Job* job, const ActorRef& ref);
  Future<int64_t> Call(Job* job, const ActorRef& ref);
  void Lose(const std::string& name, const Status& status);

  Life* const life_;
  World& world_;
  const int number_;
  std::map<std::string, Slot> slots_;    // by host/actor
  std::map<std::string, Slot> senders_;  // the same, of messages that came
  std::vector<std::pair<Job*, Future<int64_t>>> open_;
};

}  // namespace packcast::rtsim
