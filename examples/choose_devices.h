#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "protocol/status.h"

namespace packcast::examples {

// Where the members of one machine keep their weights, and why.
struct DeviceChoice {
  std::vector<int> devices;  // the trainer's GPU, then each worker's; none: host memory
  bool by_default = false;   // nobody named these GPUs
  std::string why;           // a line for who started it
};

// What the default asks the machine, and only as far as it needs to.
struct DeviceProbe {
  std::function<StatusOr<int>()> count;
  std::function<Status(int ranks)> usable;  // whether weights can get from GPU 0 to the next ones
};

// Decides for a trainer and its workers, together `ranks`. `wanted` is "auto" (GPUs when each rank
// can have one, else host memory), "none" (host memory) or a GPU for each rank ("0,1"). Who asks
// for shared memory has decided on the host's. kInvalidArgument: `wanted` is none of these.
StatusOr<DeviceChoice> ChooseDevices(const std::string& wanted, uint32_t ranks, bool shared_memory,
                                     const DeviceProbe& probe);

// How an epoch's weights travel to `workers`, and why in this way: a line about a contract's
// transport.
std::string TransportText(const std::string& transport, size_t workers);

}  // namespace packcast::examples
