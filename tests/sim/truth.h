#pragma once

#include <cstdint>
#include <map>
#include <set>

#include "protocol/ids.h"
#include "protocol/messages.h"

namespace packcast::sim {

// What really happened, as only a simulator can know.
struct Truth {
  struct Content {
    uint64_t token = 0;
    uint32_t cells = 0;
  };
  uint64_t tokens = 0;  // handed out so far
  // What the trainer's source held for the label of each version, when its user made the call.
  std::map<Version, Content> contents;
  std::map<EpochKey, std::set<MemberId>> staged;  // workers that hold all bytes of an attempt
  std::set<EpochKey> decided;
  std::set<EpochKey> given_up;
};

}  // namespace packcast::sim
