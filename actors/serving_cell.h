#pragma once

#include "actors/worker.h"
#include "runtime/base/seqlock.h"

namespace packcast {

// One writer's ServingState, readable from any thread without a lock.
class ServingCell {
 public:
  void Store(const ServingState& state) {
    words_.Store({state.version.term.counter, state.version.term.nonce, state.version.epoch.value,
                  state.label, state.installs,
                  (state.dirty ? uint64_t{1} : 0) | (state.in_service ? uint64_t{2} : 0)});
  }

  ServingState Load() const {
    const auto words = words_.Load();
    return ServingState{Version{Term{words[0], words[1]}, EpochId(words[2])}, words[3], words[4],
                        (words[5] & 1) != 0, (words[5] & 2) != 0};
  }

 private:
  Seqlock<6> words_;
};

}  // namespace packcast
