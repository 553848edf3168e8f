#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>

#include "protocol/ids.h"
#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/data/collective.h"
#include "tests/gpu/world.h"

namespace packcast::testing {

// Runs jobs[rank] on a thread of each rank, `meanwhile` on this one, and waits for both. Jobs that
// are not through after `limit` get `unstick`, once; should that not help, the process ends with an
// error: a thread is stuck in a call of the device's.
void RunOnBoth(World* world, const std::array<std::function<void()>, 2>& jobs, Duration limit,
               const std::function<void()>& unstick = nullptr,
               const std::function<void()>& meanwhile = nullptr);

// Both ranks' ends of one generation; streams follow one another on it.
class Link {
 public:
  // Joins a new generation. The ranks are named "trainer" (the root) and "worker".
  static StatusOr<std::unique_ptr<Link>> Make(World* world, uint32_t root);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  uint32_t root() const { return root_; }
  uint32_t member() const { return 1 - root_; }
  Collective* end(uint32_t rank) const { return ends_[rank].get(); }
  // A stream that neither end has seen.
  StreamId NextStream(const Digest& plan_digest);

 private:
  Link(World* world, uint32_t root, GenerationId generation)
      : world_(world), root_(root), generation_(generation) {}
  Status Join();

  World* const world_;
  const uint32_t root_;
  const GenerationId generation_;
  std::array<std::unique_ptr<Collective>, 2> ends_;
  uint64_t streams_ = 0;
};

}  // namespace packcast::testing
