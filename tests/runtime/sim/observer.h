#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/actor/new_actor.h"
#include "tests/runtime/sim/watches.h"
#include "tests/runtime/sim/world.h"

namespace packcast::rtsim {

// An actor that monitors all others, here and elsewhere, and again when they are gone.
class Observer {
 public:
  explicit Observer(Life* life) : life_(life) {}
  static void Methods(MethodTable<Observer>& table) { table.Add("nothing", &Observer::Nothing); }
  void Nothing() {}

  void OnStart(Context& context) { OnTimer(context, TimerId()); }
  void OnTimer(Context& context, TimerId timer);
  void OnPeer(Context& context, const PeerEvent& event);

 private:
  struct Slot {
    Watch* watch = nullptr;  // of the present one
    bool is_connecting = false;
  };

  void Seek(Context& context, const std::string& host, const std::string& actor);
  void Found(Context& context, const ActorRef& ref, Slot* slot);

  Life* const life_;
  std::map<std::string, Slot> slots_;  // by host/actor
  std::vector<Watch*> watches_;
};

}  // namespace packcast::rtsim
