#include "examples/rl/engine.h"

#include <cstdio>
#include <utility>

namespace packcast::examples {
namespace {
constexpr size_t kTokens = 64;  // of a rollout
constexpr size_t kInFlight = 2;
}  // namespace

bool Decoder::HasRoom() {
  while (!sent_.empty() && sent_.front().ready()) {
    // Ready: it does not wait. A rollout that is lost is no harm; that it is lost should be seen.
    const Status status = sent_.front().Get(Duration(0)).status();
    if (!status.ok())
      std::fprintf(stderr, "%s: a rollout: %s\n", engine_.c_str(), status.message().c_str());
    sent_.pop_front();
  }
  return sent_.size() < kInFlight;
}

void Decoder::Step(const Layers& layers, const std::string& version, uint64_t label) {
  if (rollout_.spans.empty() || rollout_.spans.back().version != version) {
    rollout_.spans.push_back({version, label, {}});
  }
  rollout_.spans.back().tokens.push_back(Decode(layers, prompt_, position_));
  if (++position_ < kTokens) return;
  rollout_.engine = engine_;
  rollout_.prompt = prompt_++;
  position_ = 0;
  sent_.push_back(rollouts_.CallWith({.deadline = Seconds(60)}, &Rollouts::Put,
                                     std::exchange(rollout_, Rollout())));
}

StatusOr<TypedRef<Rollouts>> FindRollouts(Runtime& runtime, const std::string& endpoint) {
  PC_ASSIGN_OR_RETURN(const ActorRef ref, runtime.Connect(endpoint, "rollouts", Seconds(30)));
  return TypedRef<Rollouts>(ref);
}

}  // namespace packcast::examples
