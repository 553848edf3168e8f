#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "protocol/ids.h"
#include "protocol/messages.h"
#include "protocol/time.h"
#include "tests/sim/weights.h"

namespace packcast::sim {

// What really happened, as only a simulator can know.
struct Truth {
  uint64_t tokens = 0;  // handed out so far
  // What the trainer's sources held for the label of each version, when their user made the calls:
  // each cell as the rank has it that the contract takes it from; 0 where none is known yet.
  std::map<Version, Words> contents;
  std::map<EpochKey, std::set<MemberId>> staged;  // workers that hold all bytes of an attempt
  // What commits alone: "" all of an attempt; with the policy "each" a replica, or the trainer.
  using Domain = std::pair<EpochKey, std::string>;
  std::set<Domain> decided;
  std::set<Version> decided_versions;
  std::map<uint64_t, Time> label_decided;  // last
  std::set<Domain> given_up;
  // The trainer ranks of attempts that have begun.
  std::map<EpochKey, std::set<MemberId>> walkers;
  // Attempts in which a trainer rank lost its session, or that it gave up on its own for another
  // reason; and those whose ranks were told where to stop by a coordinator that had missed none.
  std::set<EpochKey> abandoned;
  std::set<EpochKey> drained_unaware;
  // Members whose place another life of their name has taken, be it an earlier one: a coordinator
  // takes them for dead, and they end once they hear of it.
  std::set<MemberId> superseded;

  // Until when something was wrong with each name, for all we did to it and all it did itself.
  std::map<std::string, Time> faulty_until;
  void Fault(const std::string& name, Time until) {
    Time& last = faulty_until[name];
    last = std::max(last, until);
  }
  bool FaultySince(const std::string& name, Time since) const {
    const auto last = faulty_until.find(name);
    return last != faulty_until.end() && last->second >= since;
  }

  // When a stream of each name was last broken off because another flow's failed: its peers in that
  // flow see it go, and not for whose sake.
  std::map<std::string, Time> broke_off;
  bool BrokeOffSince(const std::string& name, Time since) const {
    const auto last = broke_off.find(name);
    return last != broke_off.end() && last->second >= since;
  }
};

}  // namespace packcast::sim
