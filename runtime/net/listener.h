#pragma once

#include <string>

#include "protocol/status.h"
#include "protocol/time.h"

// What libzmq lets nobody set on the socket with which it listens. `endpoint`: where a socket of
// this process is bound, "tcp://ADDRESS:PORT" as ZmqSocket::Bind returns it. Errors: kNotFound,
// kUnavailable (the kernel refuses; no descriptor to look at those that are there). Any thread.
namespace packcast::net {

// Who connects and says nothing is not accepted until he does, or until `patience` (whole seconds;
// 0: accepted at once, as at first) is over. So a scanner that resets his connections costs only
// the kernel; libzmq's connections speak at once. Those that wait are as many as the backlog; more
// are accepted at once where the kernel has SYN cookies (net.ipv4.tcp_syncookies), else nobody is.
Status DeferAccept(const std::string& endpoint, Duration patience);

// Lets nobody else connect: the kernel drops what asks for a connection. Those that stand go on.
// (zmq_unbind would end them, too.)
Status CloseDoor(const std::string& endpoint);

}  // namespace packcast::net
