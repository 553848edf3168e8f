#pragma once

#include <mutex>

#include "actors/worker.h"
#include "runtime/base/seqlock.h"

namespace packcast {

// A worker's ServingState, readable from any thread without a lock. Two threads write: the driving
// thread says first that a version was installed, so that it is named as soon as it serves; the
// actor says everything else, once its machine knows. Thread-safe.
class ServingCell {
 public:
  // The sink has just begun to serve `version`.
  void Installed(const Version& version, uint64_t label, bool in_service) {
    std::lock_guard lock(mutex_);
    const ServingState before = Load();
    Store({version, label, before.installs + 1, false, in_service});
  }

  // What the machine says; the label stays that of the version installed last.
  void Publish(ServingState state) {
    std::lock_guard lock(mutex_);
    const ServingState before = Load();
    // It has not heard of the install yet, and changes nothing of this until it does.
    if (state.version < before.version) return;
    state.label = before.label;
    Store(state);
  }

  ServingState Load() const {
    const auto words = words_.Load();
    return ServingState{Version{Term{words[0], words[1]}, EpochId(words[2])}, words[3], words[4],
                        (words[5] & 1) != 0, (words[5] & 2) != 0};
  }

 private:
  void Store(const ServingState& state) {
    words_.Store({state.version.term.counter, state.version.term.nonce, state.version.epoch.value,
                  state.label, state.installs,
                  (state.dirty ? uint64_t{1} : 0) | (state.in_service ? uint64_t{2} : 0)});
  }

  std::mutex mutex_;  // one writer at a time
  Seqlock<6> words_;
};

}  // namespace packcast
