#include "examples/device_flag.h"

#include <cstdlib>

#include <CLI/CLI.hpp>

namespace packcast::examples {

void AddDeviceFlag(CLI::App* app, int* device) {
  app->add_option("--device", *device, "GPU that the weights live on; -1: in the host's memory")
      ->envname("PACKCAST_DEVICE")
      ->capture_default_str();
}

StatusOr<Allocator*> UseDevice(int device, std::optional<NcclTransportOptions>* options) {
  if (device < 0) return static_cast<Allocator*>(nullptr);
  NcclTransportOptions nccl;
  nccl.device = device;
  if (const char* library = std::getenv("PACKCAST_NCCL_LIBRARY")) nccl.library = library;
  *options = nccl;
  return DeviceMemory(device);
}

}  // namespace packcast::examples
