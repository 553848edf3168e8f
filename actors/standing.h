#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "actors/membership.h"
#include "protocol/ids.h"

namespace packcast {

// Where the replicas of a cluster stand: which version is the newest, who lacks it, and who could
// send it. Points into the membership that it was made of.
struct Standing {
  struct Lacking {
    std::vector<const Member*> ranks;
    // False while a rank served a newer version than any that is left: none goes back.
    bool can_catch_up = true;
  };
  // Complete and not drained.
  std::set<std::string> replicas;
  // The newest that any of their ranks serves. One is enough: that its install was decided means
  // that all had the bytes. Zero: none.
  Version newest;
  std::map<std::string, Lacking> behind;
  // Ranks that would send `newest`, the best first: of replicas that are not behind.
  std::vector<const Member*> providers;
};

Standing StandingOf(const Membership& membership);

// Whether nobody can be behind, without looking closely.
bool AllServeTheSame(const Membership& membership);

}  // namespace packcast
