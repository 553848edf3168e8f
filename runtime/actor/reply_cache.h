#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>

#include "protocol/frame.h"
#include "protocol/ids.h"

namespace packcast::internal {

// Recognises repeated calls of one caller's life within a bounded window, and keeps the replies to
// send them again. Owned by a Link; the reactor's thread only.
class ReplyCache {
 public:
  struct Reply {
    bool is_done = false;
    Envelope envelope;
    std::string body;
  };

  // True when `id` is new: the call shall run. Else `known` is set, until the next non-const call.
  bool Begin(CallId id, const Reply** known);
  // Keeps the reply. Ignored when the call has left the window meanwhile.
  void Finish(CallId id, const Envelope& envelope, std::string_view body);
  // The call did not run: when it comes again, it shall.
  void Forget(CallId id);

  static constexpr size_t kCalls = 1024;
  static constexpr size_t kBytes = 8u << 20;

 private:
  void Trim();
  std::unordered_map<uint64_t, Reply> replies_;
  std::deque<uint64_t> order_;  // oldest first; may name forgotten ones
  size_t bytes_ = 0;
};

}  // namespace packcast::internal
