#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace packcast {

// Some words of one writer, read by any thread as they were at one moment, without a lock: a
// sequence counter around atomic words. A reader who met the writer tries again, so the writer
// never waits. Store from one thread at a time.
template <size_t kWords>
class Seqlock {
 public:
  using Words = std::array<uint64_t, kWords>;

  void Store(const Words& words) {
    const uint64_t next = sequence_.load(std::memory_order_relaxed) + 2;
    sequence_.store(next - 1, std::memory_order_relaxed);
    // Release: who sees a new word sees the odd sequence too.
    for (size_t k = 0; k < kWords; ++k) words_[k].store(words[k], std::memory_order_release);
    sequence_.store(next, std::memory_order_release);
  }

  Words Load() const {
    Words words;
    uint64_t before = 0;
    do {
      before = sequence_.load(std::memory_order_acquire);
      for (size_t k = 0; k < kWords; ++k) words[k] = words_[k].load(std::memory_order_acquire);
    } while (before % 2 != 0 || sequence_.load(std::memory_order_relaxed) != before);
    return words;
  }

 private:
  std::atomic<uint64_t> sequence_{0};  // odd while it is written
  std::array<std::atomic<uint64_t>, kWords> words_ = {};
};

}  // namespace packcast
