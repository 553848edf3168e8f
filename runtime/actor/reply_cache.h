#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <unordered_map>

#include "protocol/frame.h"
#include "protocol/ids.h"
#include "protocol/limits.h"
#include "runtime/actor/wire_body.h"

namespace packcast::internal {

// Recognises repeated calls of one caller's life, those that still run and the last that are done,
// and keeps replies to send them again. Owned by a Link; in the reactor's turn only.
class ReplyCache {
 public:
  struct Reply {
    bool is_done = false;
    Envelope envelope;
    WireBody body;  // copies: who lent the reply's own byte ranges must not wait for us
  };

  // True when `id` is new: the call shall run. Else `known` is set, until the next non-const call.
  bool Begin(CallId id, const Reply** known);
  // Keeps the reply. One that says that the call did not run, too: the caller may have heard it
  // when the call comes again.
  void Finish(CallId id, const Envelope& envelope, const WireBody& body);

  // So many that ran are recognised, and so many that did not: as many as a caller may have open.
  static constexpr size_t kCalls = limits::kCallsInFlight;
  // And so much is kept of what they returned. Of one that had to go the repetition is told that it
  // has run.
  static constexpr size_t kBytes = 8u << 20;

 private:
  void Trim();
  // The oldest whose reply is kept; from now on it counts as not kept.
  Reply& TakeKept();
  std::unordered_map<uint64_t, Reply> replies_;
  // Oldest first.
  std::deque<uint64_t> refused_;
  std::deque<uint64_t> done_;
  std::deque<uint64_t> kept_;  // with their replies
  size_t bytes_ = 0;
};

}  // namespace packcast::internal
