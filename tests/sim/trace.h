#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "protocol/time.h"
#include "tests/sim/random.h"

namespace packcast::sim {

// What happened, in order: always as a hash (two runs of a seed must agree), and as lines of fixed
// columns when recorded.
class Trace {
 public:
  // Keeps the last `lines`.
  explicit Trace(size_t lines) : lines_kept_(lines) {}

  // `text()` is only called when lines are recorded; `number` goes into the hash in its place.
  template <class Text>
  void Add(Time now, std::string_view who, std::string_view what, uint64_t number, Text text) {
    hash_ = Mix(hash_ ^ static_cast<uint64_t>(now.time_since_epoch().count()));
    hash_ = Mix(hash_ ^ Fold(who) ^ (Fold(what) << 1) ^ number);
    if (lines_kept_ > 0) Record(now, who, what, text());
  }

  uint64_t hash() const { return hash_; }
  const std::deque<std::string>& lines() const { return lines_; }

 private:
  static uint64_t Fold(std::string_view text) {
    uint64_t h = 0xcbf29ce484222325u;
    for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return h;
  }
  void Record(Time now, std::string_view who, std::string_view what, const std::string& text);

  const size_t lines_kept_;
  uint64_t hash_ = 0;
  std::deque<std::string> lines_;
};

}  // namespace packcast::sim
