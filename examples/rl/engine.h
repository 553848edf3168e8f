#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "examples/rl/policy.h"
#include "examples/rl/rollouts.h"

namespace packcast::examples {

// What both engines share: decodes one rollout after the other, a token a step, and hands them to
// the actor "rollouts". Used by the engine's thread.
class Decoder {
 public:
  Decoder(std::string engine, TypedRef<Rollouts> rollouts)
      : engine_(std::move(engine)), rollouts_(std::move(rollouts)) {}

  // True when a step may be made: not too many rollouts are on their way.
  bool HasRoom();
  // One token with these weights, which are those of `version`.
  void Step(const Layers& layers, const std::string& version, uint64_t label);

 private:
  const std::string engine_;
  const TypedRef<Rollouts> rollouts_;
  uint64_t prompt_ = 0;
  size_t position_ = 0;
  Rollout rollout_;
  std::deque<Future<Unit>> sent_;  // not yet accepted
};

// Connects to the actor, which lives beside the coordinator.
StatusOr<TypedRef<Rollouts>> FindRollouts(Runtime& runtime, const std::string& endpoint);

}  // namespace packcast::examples
