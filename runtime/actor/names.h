#pragma once

#include <string_view>

#include "protocol/limits.h"
#include "protocol/text.h"

namespace packcast::internal {

// What may name nodes, clusters, actors and methods: what has another one in it no peer could
// decode.
inline bool IsWireName(std::string_view name) { return limits::IsName(name) && IsUtf8(name); }

}  // namespace packcast::internal
