#pragma once

#include <functional>
#include <thread>

#include "protocol/status.h"

namespace packcast {

// Starts a thread that runs `work`. Errors: kResourceExhausted (the system gives no more), with
// `what` it was for.
StatusOr<std::thread> StartThread(const char* what, std::function<void()> work);

// Whether the system would give so many more, all at once, for those that a library makes and
// cannot do without. It may no longer a moment later. Errors: those of StartThread.
Status CheckThreadsLeft(const char* what, int count);

}  // namespace packcast
