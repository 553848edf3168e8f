#pragma once

#include <exception>
#include <string>

#include "protocol/status.h"
#include "runtime/base/log.h"

namespace packcast::internal {

// Runs user code; what it throws ends here, is logged and comes back as kInternal.
template <class F>
Status Guarded(const std::string& actor, const char* handler, F call) {
  std::string what;
  try {
    call();
    return OkStatus();
  } catch (const std::exception& error) {
    what = std::string("threw: ") + error.what();
  } catch (...) {
    what = "threw something that is no std::exception";
  }
  const Status status = Internal("actor \"" + actor + "\": " + handler + " " + what);
  LogError(status.message());
  return status;
}

}  // namespace packcast::internal
