#pragma once

#include <string>

#include "protocol/status.h"

namespace packcast::net {

// Lets nobody else connect to the socket of this process that listens at `endpoint`
// ("tcp://ADDRESS:PORT", as bound): the kernel drops what asks for a connection. Those that stand
// go on. (zmq_unbind would end them, too.) Errors: kNotFound, kUnavailable (the kernel refuses).
Status CloseDoor(const std::string& endpoint);

}  // namespace packcast::net
