#pragma once

#include <cstddef>
#include <deque>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "protocol/ids.h"

namespace packcast::internal {

// Which life of each node counts: of several processes with one name, the one that said hello last.
// Outlasts the links, for a process may thaw long after it was given up; bounded all the same, the
// oldest is forgotten first. Owned by Peers; the reactor's thread only.
class Lives {
 public:
  // A life says hello. False when a later one has taken its name: then it is out for good.
  bool Admit(const std::string& node, Incarnation life);
  bool IsSuperseded(const std::string& node, Incarnation life) const;

  static constexpr size_t kNames = 16384;
  static constexpr size_t kSuperseded = 8192;

 private:
  using Life = std::pair<std::string, Incarnation>;
  std::unordered_map<std::string, Incarnation> latest_;
  std::deque<std::string> names_;  // of `latest_`, oldest first
  std::set<Life> superseded_;
  std::deque<Life> order_;  // of `superseded_`, oldest first
};

}  // namespace packcast::internal
