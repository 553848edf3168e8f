#include "examples/choose_devices.h"

#include <charconv>
#include <numeric>
#include <string_view>
#include <utility>

#include "protocol/limits.h"

namespace packcast::examples {
namespace {

std::string Count(uint64_t count, const std::string& thing) {
  return std::to_string(count) + " " + thing + (count == 1 ? "" : "s");
}

DeviceChoice HostMemory(std::string why) { return {{}, false, std::move(why)}; }

StatusOr<std::vector<int>> ParseDevices(const std::string& wanted) {
  std::vector<int> devices;
  std::string_view rest = wanted;
  while (true) {
    const std::string_view word = rest.substr(0, rest.find(','));
    int device = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), device);
    if (error != std::errc() || end != word.data() + word.size() || device < 0) {
      return InvalidArgument("--devices " + wanted + ": \"" + std::string(word) +
                             "\" is no GPU; use auto, none, or numbers as in 0,1");
    }
    devices.push_back(device);
    if (word.size() == rest.size()) return devices;
    rest.remove_prefix(word.size() + 1);
  }
}

StatusOr<DeviceChoice> NamedDevices(const std::string& wanted, uint32_t ranks) {
  PC_ASSIGN_OR_RETURN(std::vector<int> devices, ParseDevices(wanted));
  if (devices.size() != ranks) {
    return InvalidArgument("--devices names " + Count(devices.size(), "GPU") +
                           "; the trainer and " + Count(ranks - 1, "worker") + " need one each");
  }
  return DeviceChoice{std::move(devices), false,
                      "--devices " + wanted + ": weights stay on the devices"};
}

DeviceChoice DefaultDevices(uint32_t ranks, const DeviceProbe& probe) {
  const StatusOr<int> count = probe.count();
  if (count.status().code() == StatusCode::kUnimplemented) {
    return HostMemory("weights in host memory (" + count.status().message() + ")");
  }
  if (!count.ok()) {
    return HostMemory("no GPU: weights in host memory (" + count.status().message() + ")");
  }
  if (*count <= 0) return HostMemory("no GPU: weights in host memory");
  const auto gpus = static_cast<uint32_t>(*count);
  const std::string have = Count(gpus, "GPU") + " for " + Count(ranks, "rank");
  if (gpus < ranks) {
    return HostMemory(have + (gpus == 1 ? " is" : " are") + " too few: weights in host memory" +
                      (gpus == 1 ? "" : " (--workers " + std::to_string(gpus - 1) + " at most)"));
  }
  if (const Status usable = probe.usable(static_cast<int>(ranks)); !usable.ok()) {
    return HostMemory(have + ", but weights in host memory: " + usable.message());
  }
  DeviceChoice choice{std::vector<int>(ranks), true, have + ": weights stay on the devices"};
  std::iota(choice.devices.begin(), choice.devices.end(), 0);
  return choice;
}

}  // namespace

StatusOr<DeviceChoice> ChooseDevices(const std::string& wanted, uint32_t ranks, bool shared_memory,
                                     const DeviceProbe& probe) {
  if (wanted == "none") return HostMemory("--devices none: weights in host memory");
  if (wanted != "auto") return NamedDevices(wanted, ranks);
  if (shared_memory) return HostMemory("--shm: weights in host memory");
  return DefaultDevices(ranks, probe);
}

std::string TransportText(const std::string& transport, size_t workers) {
  if (transport.starts_with("peer@")) {
    const std::string way = workers == 1 ? "" : ", each worker's from the one before it";
    return "transport: peer copies (on one host, whose GPUs reach each other" + way + ")";
  }
  if (transport == "nccl") {
    return "transport: nccl (" +
           (workers <= limits::kChainReceivers ? "peer copies do not work between these GPUs"
                                               : Count(workers, "worker") + ": peer copies serve " +
                                                     std::to_string(limits::kChainReceivers)) +
           ")";
  }
  if (transport.starts_with("shm@")) {
    return "transport: shared memory (--shm, and all members are on one host)";
  }
  if (transport == "zmq") return "transport: zmq over TCP (host memory; --shm shares memory)";
  return "transport: " + transport;
}

}  // namespace packcast::examples
