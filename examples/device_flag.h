#pragma once

#include <optional>

#include "examples/choose_devices.h"
#include "protocol/status.h"
#include "runtime/data/buffer_ring.h"
#include "runtime/data/cuda/nccl_transport.h"

namespace CLI {
class App;
}

namespace packcast::examples {

// --device: the GPU that a role's weights live on; -1, the default, is the host's memory.
void AddDeviceFlag(CLI::App* app, int* device);

// Fills a member's options for `device` (-1: leaves them empty) and gives that device's memory
// (null: the host's). libnccl comes from PACKCAST_NCCL_LIBRARY, if that is set. Errors: those of
// DeviceMemory.
StatusOr<Allocator*> UseDevice(int device, std::optional<NcclTransportOptions>* options);

// Asks this machine, without a CUDA context in this process.
DeviceProbe ProbeDevices();

}  // namespace packcast::examples
