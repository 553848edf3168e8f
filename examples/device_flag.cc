#include "examples/device_flag.h"

#include <cstdlib>
#include <string>

#include <CLI/CLI.hpp>

#include "examples/flag_checks.h"

namespace packcast::examples {
namespace {

constexpr uint64_t kDeviceMax = 1023;

std::string NcclPath() {
  const char* library = std::getenv("PACKCAST_NCCL_LIBRARY");
  return library == nullptr ? "" : library;
}

}  // namespace

void AddDeviceFlag(CLI::App* app, int* device) {
  app->add_option("--device", *device, "GPU that the weights live on; -1: in the host's memory")
      ->envname("PACKCAST_DEVICE")
      ->check(NumberFromOr("-1", 0, kDeviceMax))
      ->capture_default_str();
}

StatusOr<Allocator*> UseDevice(int device, std::optional<NcclTransportOptions>* options) {
  if (device < 0) return static_cast<Allocator*>(nullptr);
  NcclTransportOptions nccl;
  nccl.device = device;
  nccl.library = NcclPath();
  *options = nccl;
  return DeviceMemory(device);
}

DeviceProbe ProbeDevices() {
  return {CountDevices, [](int ranks) { return FindDeviceTransport(ranks, NcclPath()); }};
}

}  // namespace packcast::examples
