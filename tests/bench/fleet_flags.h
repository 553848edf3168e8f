#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/data/cuda/nccl_transport.h"

namespace packcast::bench {

// What all processes of tests/bench/fleet_bench.cc are told alike, but for the first two.
struct FleetFlags {
  int rank = 0;
  int channel = -1;
  int workers = 3;
  int repeats = 10;
  int kills = 1;
  bool roots = false;
  bool host = false;
  std::vector<std::string> installs = {"staged", "in-place"};
  uint64_t buffer_mib = 256;
  uint32_t buffers = 3;
  bool peer_copies = true;
  std::string library;
  std::vector<std::string> lists;

  // Nothing: weights are in the host's memory.
  std::optional<NcclTransportOptions> device() const {
    if (host) return std::nullopt;
    NcclTransportOptions options;
    options.device = rank;
    options.library = library;
    return options;
  }
};

}  // namespace packcast::bench
