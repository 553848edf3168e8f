#pragma once

#include <exception>
#include <string>

#include "protocol/status.h"
#include "runtime/base/log.h"

namespace packcast::internal {

// Runs user code; what it throws ends here: "threw: ...". Empty: it threw nothing.
template <class F>
std::string Caught(F call) {
  try {
    call();
    return "";
  } catch (const std::exception& error) {
    return std::string("threw: ") + error.what();
  } catch (...) {
    return "threw something that is no std::exception";
  }
}

// The same of an actor; it is logged and comes back as kInternal.
template <class F>
Status Guarded(const std::string& actor, const char* handler, F call) {
  const std::string thrown = Caught(call);
  if (thrown.empty()) return OkStatus();
  const Status status = Internal("actor \"" + actor + "\": " + handler + " " + thrown);
  LogError(status.message());
  return status;
}

// The same of a callback of a future.
template <class F>
void GuardedCallback(F call) {
  const std::string thrown = Caught(call);
  if (!thrown.empty()) LogError("a callback of a future ", thrown);
}

}  // namespace packcast::internal
