#pragma once

#include <deque>
#include <string>

#include "runtime/actor/actor.h"
#include "tests/runtime/sim/ledger.h"

namespace packcast::rtsim {

// What an observer has been told of one actor, over one connection.
struct Watch {
  int id = 0;
  const Process* by = nullptr;
  ActorRef ref;
  PeerEvent::Kind state = PeerEvent::Kind::kRecovered;  // but for restarts
  int life = 0;                                         // of the last restart
  Time made;
  // It was monitored so often once more, perhaps after its end: that may be told again.
  int renewals = 0;
};

// Whether monitors tell the truth, and all of it in the end.
class Watches {
 public:
  Watches(Kernel* kernel, Ledger* ledger) : kernel_(kernel), ledger_(ledger) {}

  Watch* New(const ActorRef& ref);
  void Renew(Watch* watch);
  void Told(Watch* watch, const PeerEvent& event);
  // What a monitor should have been told by now, when nothing is under way; or "".
  std::string WhatIsMissing() const;
  // From now on processes may take each other for dead, or may no more.
  void Disturbed() { is_disturbed_ = true; }
  void AtPeace() { peace_ = kernel_->now(); }
  // Before the simulation ends: they refer to its runtimes.
  void Clear() { watches_.clear(); }
  uint64_t told() const { return told_; }

 private:
  void CheckOrder(Watch* watch, const PeerEvent& event);
  void CheckTruth(Watch* watch, const PeerEvent& event);
  static std::string WhatIsCounted(const Watch& watch);
  const Lineage* Watched(const Watch& watch) const;
  bool LacksRestart(const Watch& watch, const Lineage& lineage) const;
  std::string Describe(const Watch& watch) const;

  Kernel* const kernel_;
  Ledger* const ledger_;
  std::deque<Watch> watches_;
  bool is_disturbed_ = false;
  Time peace_;
  uint64_t told_ = 0;
};

}  // namespace packcast::rtsim
