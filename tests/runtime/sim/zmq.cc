// The surface of libzmq that runtime/net uses, over the simulated Network. Messages are libzmq's
// own: they are memory, and nothing else.
#include <zmq.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "runtime/base/check.h"
#include "tests/runtime/sim/network.h"

namespace packcast::rtsim {
namespace {

bool has_more = false;  // frames of the message that was received last

Network& Net() {
  PC_CHECK(Network::Current() != nullptr) << "a socket outside of a simulation";
  return *Network::Current();
}

Socket* Of(void* handle) { return static_cast<Socket*>(handle); }

std::string TakeBytes(zmq_msg_t* frame) {
  std::string bytes(static_cast<const char*>(zmq_msg_data(frame)), zmq_msg_size(frame));
  zmq_msg_close(frame);
  zmq_msg_init(frame);
  return bytes;
}

int Failed(int error) {
  errno = error;
  return -1;
}

// The first frame of a message is accepted or refused for all of it.
int StartMessage(Socket* socket, const zmq_msg_t* frame) {
  auto* const bytes = const_cast<zmq_msg_t*>(frame);
  const bool is_router = socket->type == Socket::Type::kRouter;
  return Net().StartSend(
      socket, is_router
                  ? std::string(static_cast<const char*>(zmq_msg_data(bytes)), zmq_msg_size(bytes))
                  : std::string());
}

}  // namespace
}  // namespace packcast::rtsim

using packcast::Milliseconds;
using packcast::rtsim::Failed;
using packcast::rtsim::Net;
using packcast::rtsim::Of;
using packcast::rtsim::Socket;

extern "C" {

void* zmq_ctx_new() { return new int; }
int zmq_ctx_set(void*, int, int) { return 0; }
int zmq_ctx_term(void* context) {
  delete static_cast<int*>(context);
  return 0;
}

void* zmq_socket(void*, int type) {
  PC_CHECK(type == ZMQ_ROUTER || type == ZMQ_DEALER || type == ZMQ_PAIR) << "socket type " << type;
  return Net().Open(type == ZMQ_ROUTER   ? Socket::Type::kRouter
                    : type == ZMQ_DEALER ? Socket::Type::kDealer
                                         : Socket::Type::kPair);
}

int zmq_close(void* handle) {
  Net().Close(Of(handle));
  return 0;
}

int zmq_setsockopt(void* handle, int option, const void* value, size_t size) {
  Socket& socket = *Of(handle);
  if (option == ZMQ_ROUTING_ID) {
    socket.routing_id = std::string(static_cast<const char*>(value), size);
    return 0;
  }
  if (size != sizeof(int)) return 0;
  int number = 0;
  std::memcpy(&number, value, sizeof number);
  switch (option) {
    case ZMQ_SNDHWM: socket.send_high_water = static_cast<size_t>(number); break;
    case ZMQ_RCVHWM: socket.receive_high_water = static_cast<size_t>(number); break;
    case ZMQ_LINGER: socket.linger = Milliseconds(number); break;
    case ZMQ_RECONNECT_IVL: socket.reconnect_first = Milliseconds(number); break;
    case ZMQ_RECONNECT_IVL_MAX: socket.reconnect_max = Milliseconds(number); break;
    // The network is as with these, whatever the options say.
    case ZMQ_ROUTER_MANDATORY:
    case ZMQ_ROUTER_HANDOVER:
    case ZMQ_IMMEDIATE: PC_CHECK(number == 1) << "socket option " << option; break;
    default: break;
  }
  return 0;
}

int zmq_getsockopt(void* handle, int option, void* value, size_t* size) {
  Socket& socket = *Of(handle);
  if (option == ZMQ_LAST_ENDPOINT) {
    PC_CHECK(socket.endpoint.size() < *size);
    std::memcpy(value, socket.endpoint.c_str(), socket.endpoint.size() + 1);
    *size = socket.endpoint.size() + 1;
    return 0;
  }
  PC_CHECK(option == ZMQ_FD || option == ZMQ_EVENTS) << "socket option " << option;
  const int number =
      option == ZMQ_FD ? socket.fd : ZMQ_POLLOUT | (Net().HasCome(&socket) ? ZMQ_POLLIN : 0);
  std::memcpy(value, &number, sizeof number);
  return 0;
}

int zmq_bind(void* handle, const char* endpoint) {
  return Net().Bind(Of(handle), endpoint) ? 0 : Failed(EADDRINUSE);
}

int zmq_connect(void* handle, const char* endpoint) {
  Net().Connect(Of(handle), endpoint);
  return 0;
}

int zmq_socket_monitor(void* handle, const char* endpoint, int) {
  Net().Monitor(Of(handle), endpoint == nullptr ? "" : endpoint);
  return 0;
}

int zmq_msg_send(zmq_msg_t* frame, void* handle, int flags) {
  Socket* const socket = Of(handle);
  const bool is_first = socket->sending_to == nullptr;
  if (is_first) {
    const int error = packcast::rtsim::StartMessage(socket, frame);
    if (error != 0) return Failed(error);
  }
  std::string bytes = packcast::rtsim::TakeBytes(frame);
  const int size = static_cast<int>(bytes.size());
  const bool is_address = is_first && socket->type == Socket::Type::kRouter;
  if (!is_address) socket->sending.push_back(std::move(bytes));
  if ((flags & ZMQ_SNDMORE) == 0) Net().FinishSend(socket);
  return size;
}

int zmq_msg_recv(zmq_msg_t* frame, void* handle, int) {
  Socket* const socket = Of(handle);
  if (socket->received == socket->receiving.size()) {
    socket->received = 0;
    socket->receiving.clear();
    if (!Net().Receive(socket, &socket->receiving)) return Failed(EAGAIN);
  }
  const std::string& bytes = socket->receiving[socket->received++];
  zmq_msg_close(frame);
  PC_CHECK(zmq_msg_init_size(frame, bytes.size()) == 0) << "no memory";
  if (!bytes.empty()) std::memcpy(zmq_msg_data(frame), bytes.data(), bytes.size());
  packcast::rtsim::has_more = socket->received < socket->receiving.size();
  return static_cast<int>(bytes.size());
}

int zmq_msg_more(const zmq_msg_t*) { return packcast::rtsim::has_more ? 1 : 0; }

}  // extern "C"
