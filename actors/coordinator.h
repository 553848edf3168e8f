#pragma once

#include <functional>
#include <memory>
#include <string>

#include "actors/epoch.h"
#include "protocol/contract.h"
#include "protocol/status.h"
#include "protocol/time.h"
#include "protocol/value.h"

namespace packcast {

class Runtime;

struct CoordinatorOptions {
  std::string model = "default";
  ContractPolicy policy;
  EpochDeadlines deadlines;
  uint32_t min_replicas = 1;
  BelowMin below_min = BelowMin::kFail;
  CommitPolicy commit = CommitPolicy::kAll;
  uint32_t max_attempts = 5;
  // Called with each event (docs/protocol.md, "Events") on the runtime's executor; must be quick.
  std::function<void(const Value& event)> on_event;
};

// The coordinator actor, named "coordinator" in its runtime: one per cluster and model. It decides
// contracts and commits, and answers control calls from scripts. Thread-safe.
class Coordinator {
 public:
  // Errors: kInvalidArgument (policy out of range), kAlreadyExists (the runtime has one).
  static StatusOr<std::unique_ptr<Coordinator>> Start(Runtime* runtime, CoordinatorOptions options);
  ~Coordinator();

  // Waits up to `max_wait` for a shutdown that a control call asked for. True once it is done.
  bool WaitStopped(Duration max_wait);

 private:
  class Impl;
  explicit Coordinator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packcast
