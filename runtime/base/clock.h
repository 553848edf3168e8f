#pragma once

#include "protocol/time.h"

namespace packcast {

// The steady clock. Shells and the runtime read it; machines are told the time.
inline Time Now() {
  return std::chrono::time_point_cast<Duration>(std::chrono::steady_clock::now());
}

}  // namespace packcast
