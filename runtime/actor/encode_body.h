#pragma once

#include <string>

#include "protocol/status.h"
#include "protocol/value.h"

namespace packcast::internal {

// A message's body as it travels, "" for nil; kInvalidArgument: it cannot, and did not.
StatusOr<std::string> EncodeBody(const Value& body);

}  // namespace packcast::internal
