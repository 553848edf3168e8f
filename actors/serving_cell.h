#pragma once

#include <atomic>
#include <cstdint>

#include "actors/worker.h"

namespace packcast {

// One writer's ServingState, readable from any thread without a lock: a sequence counter around
// atomic words (a seqlock). A reader who met a writer tries again.
class ServingCell {
 public:
  void Store(const ServingState& state) {
    const uint64_t words[kWords] = {state.version.term.counter,
                                    state.version.term.nonce,
                                    state.version.epoch.value,
                                    state.label,
                                    state.installs,
                                    (state.dirty ? 1u : 0u) | (state.in_service ? 2u : 0u)};
    const uint64_t sequence = sequence_.load(std::memory_order_relaxed);
    sequence_.store(sequence + 1, std::memory_order_seq_cst);
    for (int k = 0; k < kWords; ++k) words_[k].store(words[k], std::memory_order_seq_cst);
    sequence_.store(sequence + 2, std::memory_order_seq_cst);
  }

  ServingState Load() const {
    uint64_t words[kWords];
    uint64_t before = 0;
    do {
      before = sequence_.load(std::memory_order_seq_cst);
      for (int k = 0; k < kWords; ++k) words[k] = words_[k].load(std::memory_order_seq_cst);
    } while (before % 2 != 0 || before != sequence_.load(std::memory_order_seq_cst));
    return ServingState{Version{Term{words[0], words[1]}, EpochId(words[2])}, words[3], words[4],
                        (words[5] & 1) != 0, (words[5] & 2) != 0};
  }

 private:
  static constexpr int kWords = 6;
  std::atomic<uint64_t> sequence_{0};  // odd while it is written
  std::atomic<uint64_t> words_[kWords] = {};
};

}  // namespace packcast
