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
  enum class Verdict {
    kAdmitted,
    kMustName,    // another life holds the name: HolderOf says which
    kSuperseded,  // a later one has taken the name: it is out for good
  };
  // A life says hello, and which one it takes the name from, if it has been told. What a dead
  // process has said may come late, after the hello of its successor: it cannot name that one.
  Verdict Admit(const std::string& node, Incarnation life, Incarnation earlier);
  // 0: nobody, or it is forgotten.
  Incarnation HolderOf(const std::string& node) const;
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
