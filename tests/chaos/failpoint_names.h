#pragma once

#include <string>
#include <vector>

namespace packcast::chaos {

struct FailpointName {
  std::string name;
  bool is_step = false;   // of a machine, or a message: the simulation reaches it too
  bool can_fail = false;  // takes "error"
  bool is_rare = false;   // wants several things to go wrong at once
  // A step that only a message makes which comes late or twice, or the call of a second sync while
  // the first runs: as on the simulated network, and never with these programs on TCP.
  bool is_simulated = false;
};

// All failpoints of coordinator, trainer and worker with weights in host memory.
std::vector<FailpointName> FailpointNames();

}  // namespace packcast::chaos
