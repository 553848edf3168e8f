#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "actors/packcast.h"

namespace packcast::examples {

// Tokens that one version of the policy made.
struct Span {
  std::string version;  // packcast's: "3.17"
  uint64_t label = 0;   // the trainer's own step number
  std::vector<uint64_t> tokens;
  template <class V>
  void Fields(V& v) {
    v("version", version);
    v("label", label);
    v("tokens", tokens);
  }
};

// What an engine made of a prompt. An engine does not throw half a rollout away when new weights
// come: it goes on with them, and each span names the version that made it.
struct Rollout {
  std::string engine;
  uint64_t prompt = 0;
  std::vector<Span> spans;
  template <class V>
  void Fields(V& v) {
    v("engine", engine);
    v("prompt", prompt);
    v("spans", spans);
  }
};

// The actor between engines and trainer. A Put is answered when there is room for the next one:
// that keeps engines from running ahead of the training.
class Rollouts {
 public:
  explicit Rollouts(size_t most) : most_(most) {}

  Future<Unit> Put(Rollout rollout) {
    Promise<Unit> accepted;
    waiting_.push_back({std::move(rollout), accepted});
    Match();
    return accepted.future();
  }
  // Resolves when there are so many. One at a time.
  Future<std::vector<Rollout>> Take(uint64_t count) {
    Promise<std::vector<Rollout>> taken;
    if (take_ || count == 0 || count > most_) {
      return MakeReady<std::vector<Rollout>>(
          InvalidArgument("one Take at a time, of 1 to " + std::to_string(most_)));
    }
    take_ = {count, taken};
    Match();
    return taken.future();
  }

  static void Methods(MethodTable<Rollouts>& table) {
    table.Add("put", &Rollouts::Put, {.about = "adds a rollout, once there is room"})
        .Add("take", &Rollouts::Take, {.about = "the oldest so many rollouts"});
  }

 private:
  struct Waiting {
    Rollout rollout;
    Promise<Unit> accepted;
  };
  struct Wanted {
    uint64_t count = 0;
    Promise<std::vector<Rollout>> taken;
  };

  void Match() {
    Accept();
    if (!take_ || ready_.size() < take_->count) return;
    const auto end = ready_.begin() + static_cast<std::ptrdiff_t>(take_->count);
    std::vector<Rollout> taken(std::make_move_iterator(ready_.begin()),
                               std::make_move_iterator(end));
    ready_.erase(ready_.begin(), end);
    std::exchange(take_, std::nullopt)->taken.Set(std::move(taken));
    Accept();
  }
  void Accept() {
    while (!waiting_.empty() && ready_.size() < most_) {
      ready_.push_back(std::move(waiting_.front().rollout));
      waiting_.front().accepted.Set(Unit());
      waiting_.pop_front();
    }
  }

  const size_t most_;
  std::deque<Rollout> ready_;
  std::deque<Waiting> waiting_;
  std::optional<Wanted> take_;
};

}  // namespace packcast::examples
