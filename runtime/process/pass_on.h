#pragma once

#include <sys/types.h>

#include <string_view>

namespace packcast::internal {

// Writes to this process's stderr what fits at once, as write does. Never waits, whoever else
// writes there: that a pipe or a terminal has room says nothing about the next write. -1 and
// EAGAIN: there is no room.
ssize_t WriteToStderr(std::string_view text);

}  // namespace packcast::internal
