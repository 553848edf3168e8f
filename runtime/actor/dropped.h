#pragma once

#include <string>

#include "protocol/status.h"

namespace packcast::internal {

// What a call gets that nobody can answer any more: kInternal and this text; or, where an actor's
// life ends on this thread, that.
Status Dropped(const std::string& otherwise);

// While an actor ends on this thread, and its object goes: what calls get that it has left open.
class EndingScope {
 public:
  explicit EndingScope(Status status);
  ~EndingScope();
  EndingScope(const EndingScope&) = delete;
  EndingScope& operator=(const EndingScope&) = delete;

 private:
  friend Status Dropped(const std::string& otherwise);
  const Status status_;
  const EndingScope* const outer_;
};

}  // namespace packcast::internal
