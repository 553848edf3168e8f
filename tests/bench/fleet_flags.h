#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/data/cuda/nccl_transport.h"

namespace packcast::bench {

// What all processes of tests/bench/fleet_bench.cc are told alike, but for the first two.
struct FleetFlags {
  int rank = 0;  // 0: a trainer; then the workers, then the other trainer ranks
  int channel = -1;
  int workers = 3;
  int trainers = 1;  // ranks, which hold about as many bytes each
  int repeats = 10;
  int kills = 1;
  bool roots = false;
  bool host = false;
  int share = 0;  // GPUs that all processes share; 0: each has its own
  std::vector<std::string> installs = {"staged", "in-place"};
  uint64_t buffer_mib = 256;
  uint32_t buffers = 3;
  bool peer_copies = true;
  std::string library;
  std::vector<std::string> lists;

  int processes() const { return workers + trainers; }
  int trainer_rank() const { return rank == 0 ? 0 : rank - workers; }
  int gpu() const { return share > 0 ? rank % share : rank; }
  // NCCL takes a GPU for each rank.
  bool measures_raw() const { return !host && share == 0; }

  // Nothing: weights are in the host's memory.
  std::optional<NcclTransportOptions> device() const {
    if (host) return std::nullopt;
    NcclTransportOptions options;
    options.device = gpu();
    options.library = library;
    return options;
  }
};

}  // namespace packcast::bench
