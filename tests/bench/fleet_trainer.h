#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/trainer.h"
#include "protocol/manifest.h"
#include "protocol/time.h"
#include "runtime/actor/runtime.h"
#include "tests/bench/fleet_flags.h"
#include "tests/bench/watched_source.h"

namespace packcast::bench {

inline constexpr Duration kFleetSyncLimit = Seconds(60);

// The rows of a JSON list of tensors; of "-", one of 2 KiB. `model`: what it is called, if wanted.
std::vector<Row> FleetRows(const std::string& list, std::string* model = nullptr);

// A trainer rank of a fleet, on `runtime`, with random weights of `list`: all of them, or its part
// where there are several ranks. Errors end the process.
struct FleetTrainer {
  FleetTrainer(const FleetFlags& flags, const std::string& list, const std::string& coordinator,
               Runtime* runtime);

  std::unique_ptr<WatchedSource> source;
  // Other weights, the same for the same seed at every rank. Null where they change with the label.
  std::function<void(uint64_t seed)> refill;
  std::unique_ptr<Trainer> trainer;
};

}  // namespace packcast::bench
