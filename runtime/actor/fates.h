#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "protocol/ids.h"
#include "protocol/status.h"

namespace packcast::internal {

// How actors of this node that are gone have ended, for peers that ask later: they may have missed
// the goodbye, or begun to watch after it. Bounded: the oldest is forgotten first. Not thread-safe.
class Fates {
 public:
  // Of all lives that the actor had. kPeerDied: it was no orderly stop.
  void Add(const std::string& actor, const std::vector<Incarnation>& lives, const Status& end);
  // OK: not known.
  Status Find(const std::string& actor, Incarnation life) const;

  static constexpr size_t kLives = 4096;

 private:
  using Life = std::pair<std::string, uint64_t>;
  std::map<Life, Status> ends_;
  std::deque<Life> order_;  // of `ends_`, oldest first
};

}  // namespace packcast::internal
