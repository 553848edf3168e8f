#include "runtime/net/zmq_socket.h"

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "protocol/limits.h"
#include "runtime/base/thread.h"

namespace packcast::net {
namespace {

int TypeNumber(SocketType type) {
  switch (type) {
    case SocketType::kRouter: return ZMQ_ROUTER;
    case SocketType::kDealer: return ZMQ_DEALER;
    case SocketType::kPair: return ZMQ_PAIR;
    case SocketType::kReply: return ZMQ_REP;
  }
  return ZMQ_PAIR;
}

// Of fewer bytes a copy is cheaper than the reference count that zero-copy needs.
constexpr size_t kCopyBytes = 4096;
constexpr char kBindable[] =
    "bind a number of it (IPv4) or an interface, such as tcp://127.0.0.1:* or tcp://lo:*";

std::string LastError() { return zmq_strerror(zmq_errno()); }

void RunRelease(void*, void* hint) {
  std::unique_ptr<Frame::Release> release(static_cast<Frame::Release*>(hint));
  if (*release) (*release)();
}

void DeleteString(void*, void* hint) { delete static_cast<std::string*>(hint); }

Status Apply(void* socket, const OptionSetting& setting) {
  int result = 0;
  if (setting.has_text) {
    result = zmq_setsockopt(socket, setting.option, setting.text.data(), setting.text.size());
  } else if (setting.is_int64) {
    result = zmq_setsockopt(socket, setting.option, &setting.number, sizeof setting.number);
  } else {
    const int number = static_cast<int>(setting.number);
    result = zmq_setsockopt(socket, setting.option, &number, sizeof number);
  }
  if (result == 0) return OkStatus();
  return InvalidArgument(std::string("socket option ") + setting.name + ": " + LastError());
}

MonitorEvent::Kind KindOf(int event) {
  using Kind = MonitorEvent::Kind;
  switch (event) {
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED: return Kind::kConnected;
    case ZMQ_EVENT_DISCONNECTED: return Kind::kDisconnected;
    case ZMQ_EVENT_CONNECT_DELAYED:
    case ZMQ_EVENT_CONNECTED:
    case ZMQ_EVENT_CLOSED: return Kind::kTried;
    case ZMQ_EVENT_ACCEPTED: return Kind::kAccepted;
    case ZMQ_EVENT_ACCEPT_FAILED: return Kind::kAcceptFailed;
    case ZMQ_EVENT_BIND_FAILED: return Kind::kBindFailed;
    case ZMQ_EVENT_CONNECT_RETRIED: return Kind::kRetried;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL: return Kind::kHandshakeFailed;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH: return Kind::kTurnedAway;
  }
  return Kind::kOther;
}

}  // namespace

ZmqContext::ZmqContext(int io_threads) : context_(zmq_ctx_new()), io_threads_(io_threads) {
  zmq_ctx_set(context_, ZMQ_IO_THREADS, io_threads);
  zmq_ctx_set(context_, ZMQ_MAX_SOCKETS, static_cast<int>(2 * limits::kMembers));
}

ZmqContext::~ZmqContext() { End(); }

void ZmqContext::End() {
  if (context_ == nullptr) return;
  while (zmq_ctx_term(context_) != 0 && zmq_errno() == EINTR) {
  }
  context_ = nullptr;
}

Status ZmqContext::Start() {
  // And one that closes sockets.
  PC_RETURN_IF_ERROR(CheckThreadsLeft("ZeroMQ", io_threads_ + 1));
  void* const first = zmq_socket(context_, ZMQ_PAIR);
  if (first == nullptr) return ResourceExhausted("cannot open a ZeroMQ socket: " + LastError());
  zmq_close(first);
  return OkStatus();
}

Frame::Frame() { zmq_msg_init(&message_); }

Frame::Frame(std::string_view bytes) : Frame(bytes.size()) {
  if (!bytes.empty()) std::memcpy(data(), bytes.data(), bytes.size());
}

Frame::Frame(size_t size) {
  if (zmq_msg_init_size(&message_, size) != 0) std::abort();  // out of memory
}

Frame::~Frame() { zmq_msg_close(&message_); }

Frame::Frame(Frame&& other) noexcept : Frame() { zmq_msg_move(&message_, &other.message_); }

Frame& Frame::operator=(Frame&& other) noexcept {
  if (this != &other) zmq_msg_move(&message_, &other.message_);
  return *this;
}

Frame Frame::Borrow(std::span<const std::byte> memory, Release release) {
  Frame frame;
  auto hint = std::make_unique<Release>(std::move(release));
  zmq_msg_close(&frame.message_);
  if (zmq_msg_init_data(&frame.message_, const_cast<std::byte*>(memory.data()), memory.size(),
                        RunRelease, hint.get()) != 0) {
    std::abort();  // out of memory
  }
  (void)hint.release();  // RunRelease owns it now
  return frame;
}

Frame Frame::Of(std::shared_ptr<const std::string> bytes) {
  if (bytes->size() < kCopyBytes) return Frame(std::string_view(*bytes));
  const auto memory = std::as_bytes(std::span<const char>(*bytes));
  return Borrow(memory, [held = std::move(bytes)] {});
}

Frame Frame::Own(std::string bytes) {
  if (bytes.size() < kCopyBytes) return Frame(std::string_view(bytes));
  auto owned = std::make_unique<std::string>(std::move(bytes));
  Frame frame;
  zmq_msg_close(&frame.message_);
  if (zmq_msg_init_data(&frame.message_, owned->data(), owned->size(), DeleteString, owned.get()) !=
      0) {
    std::abort();  // out of memory
  }
  (void)owned.release();  // DeleteString owns it now
  return frame;
}

Frame Frame::Share() const {
  Frame copy;
  zmq_msg_copy(&copy.message_, const_cast<zmq_msg_t*>(&message_));
  return copy;
}

StatusOr<ZmqSocket> ZmqSocket::Open(ZmqContext& context, SocketType type,
                                    const SocketOptions& options) {
  ZmqSocket socket;
  socket.socket_ = zmq_socket(context.handle(), TypeNumber(type));
  if (socket.socket_ == nullptr) return Unavailable("cannot open a ZeroMQ socket: " + LastError());
  for (const OptionSetting& setting : OptionTable(type, options)) {
    PC_RETURN_IF_ERROR(Apply(socket.socket_, setting));
  }
  return socket;
}

ZmqSocket::ZmqSocket(ZmqSocket&& other) noexcept
    : socket_(std::exchange(other.socket_, nullptr)),
      bound_(std::exchange(other.bound_, std::string())),
      is_monitored_(std::exchange(other.is_monitored_, false)),
      is_drained_(std::exchange(other.is_drained_, false)) {}

ZmqSocket& ZmqSocket::operator=(ZmqSocket&& other) noexcept {
  if (this != &other) {
    Close();
    socket_ = std::exchange(other.socket_, nullptr);
    bound_ = std::exchange(other.bound_, std::string());
    is_monitored_ = std::exchange(other.is_monitored_, false);
    is_drained_ = std::exchange(other.is_drained_, false);
  }
  return *this;
}

void ZmqSocket::Close() {
  if (socket_ == nullptr) return;
  if (is_monitored_) zmq_socket_monitor(socket_, nullptr, 0);
  zmq_close(socket_);
  socket_ = nullptr;
}

StatusOr<std::string> ZmqSocket::Bind(const std::string& endpoint, ZmqSocket* monitor) {
  if (zmq_bind(socket_, endpoint.c_str()) != 0) {
    int error = zmq_errno();
    // To tell the monitor libzmq sends a message, and that sets errno.
    MonitorEvent event;
    while (monitor != nullptr && NextMonitorEvent(monitor, &event)) {
      if (event.kind == MonitorEvent::Kind::kBindFailed) error = event.value;
    }
    const std::string what = "cannot bind " + endpoint + ": ";
    if (error == ENODEV) {
      return InvalidArgument(what + "this machine has no such address or interface; " + kBindable);
    }
    if (error == EINVAL) return InvalidArgument(what + "it is no address; " + kBindable);
    return Unavailable(what + zmq_strerror(error));
  }
  char real[512];
  size_t size = sizeof real;
  if (zmq_getsockopt(socket_, ZMQ_LAST_ENDPOINT, real, &size) != 0) {
    return Internal("no LAST_ENDPOINT after binding " + endpoint + ": " + LastError());
  }
  return bound_ = real;
}

Status ZmqSocket::Connect(const std::string& endpoint) {
  if (zmq_connect(socket_, endpoint.c_str()) == 0) return OkStatus();
  return InvalidArgument("cannot connect to \"" + endpoint + "\": " + LastError());
}

Status ZmqSocket::Disconnect(const std::string& endpoint) {
  if (zmq_disconnect(socket_, endpoint.c_str()) == 0) return OkStatus();
  return InvalidArgument("cannot disconnect \"" + endpoint + "\": " + LastError());
}

SendResult ZmqSocket::Send(Frames* frames) {
  is_drained_ = false;
  bool is_lost = false;
  for (size_t k = 0; k < frames->size(); ++k) {
    const int more = k + 1 < frames->size() ? ZMQ_SNDMORE : 0;
    while (zmq_msg_send((*frames)[k].handle(), socket_, ZMQ_DONTWAIT | more) < 0) {
      const int error = zmq_errno();
      if (error == EINTR) continue;
      // ZeroMQ accepts or refuses a message at its first frame; later frames follow it.
      if (error == EAGAIN && k == 0) return SendResult::kFull;
      // But where the connection of a DEALER ends it takes that back, and throws away what comes
      // until the last frame, whatever it belongs to.
      is_lost = error == EAGAIN;
      if (is_lost) break;
      return error == EHOSTUNREACH ? SendResult::kUnroutable : SendResult::kFailed;
    }
  }
  frames->clear();
  return is_lost ? SendResult::kLost : SendResult::kSent;
}

ReceiveResult ZmqSocket::Receive(Frames* frames, size_t most) {
  frames->clear();
  bool is_too_long = false;
  for (int more = 1; more != 0;) {
    Frame frame;
    if (zmq_msg_recv(frame.handle(), socket_, ZMQ_DONTWAIT) < 0) {
      const int error = zmq_errno();
      if (error == EINTR) continue;
      is_drained_ = true;  // a broken one, too: who sleeps must not spin on it
      return error == EAGAIN ? ReceiveResult::kEmpty : ReceiveResult::kFailed;
    }
    more = zmq_msg_more(frame.handle());
    // The rest of an overlong message is read and thrown away, so that the next one starts clean.
    is_too_long = is_too_long || frames->size() == most;
    if (!is_too_long) frames->push_back(std::move(frame));
  }
  if (!is_too_long) return ReceiveResult::kMessage;
  frames->erase(frames->begin() + 1, frames->end());
  return ReceiveResult::kTooManyFrames;
}

int ZmqSocket::fd() const {
  int fd = -1;
  size_t size = sizeof fd;
  zmq_getsockopt(socket_, ZMQ_FD, &fd, &size);
  return fd;
}

bool ZmqSocket::can_receive() const {
  int events = 0;
  size_t size = sizeof events;
  return zmq_getsockopt(socket_, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN) != 0;
}

bool ZmqSocket::HasCome() {
  is_drained_ = !can_receive();
  return !is_drained_;
}

StatusOr<ZmqSocket> ZmqSocket::OpenMonitor(ZmqContext& context) {
  // The address of the socket is unique among the open sockets of this process.
  const std::string endpoint =
      "inproc://monitor-" + std::to_string(reinterpret_cast<uintptr_t>(socket_));
  SocketOptions options;
  options.receive_high_water = 0;  // events are few, and none may be lost
  // First: libzmq blocks where it has an event, and Close makes the last one, without a reader.
  PC_ASSIGN_OR_RETURN(ZmqSocket monitor, Open(context, SocketType::kPair, options));
  if (zmq_socket_monitor(socket_, endpoint.c_str(), ZMQ_EVENT_ALL) != 0) {
    return Unavailable("cannot monitor a socket: " + LastError());
  }
  is_monitored_ = true;
  PC_RETURN_IF_ERROR(monitor.Connect(endpoint));
  return monitor;
}

bool NextMonitorEvent(ZmqSocket* monitor, MonitorEvent* event) {
  Frames frames;
  if (monitor->Receive(&frames) != ReceiveResult::kMessage) return false;
  *event = MonitorEvent();
  if (frames.size() != 2 || frames[0].size() < 6) return true;
  uint16_t number = 0;
  int32_t value = 0;
  std::memcpy(&number, frames[0].data(), sizeof number);
  std::memcpy(&value, frames[0].data() + sizeof number, sizeof value);
  event->value = value;
  event->endpoint = std::string(frames[1].view());
  event->kind = KindOf(number);
  event->is_about_curve = number == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL &&
                          value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH;
  return true;
}

Status CheckBindEndpoint(std::string_view endpoint) {
  constexpr std::string_view kTcp = "tcp://";
  constexpr int kMostPort = 65'535;
  const std::string what = "\"" + std::string(endpoint) + "\" cannot be bound: ";
  if (endpoint.starts_with("ipc://") && endpoint.size() > std::string_view("ipc://").size()) {
    return OkStatus();
  }
  const size_t colon = endpoint.rfind(':');
  if (!endpoint.starts_with(kTcp) || colon < kTcp.size()) {
    return InvalidArgument(what + "it is no address; " + kBindable + ", or ipc://path");
  }
  const std::string_view host = endpoint.substr(kTcp.size(), colon - kTcp.size());
  const std::string_view port = endpoint.substr(colon + 1);
  if (host == "localhost" || host.starts_with('[')) {
    return InvalidArgument(what + "no names and no IPv6; " + kBindable);
  }
  int number = -1;
  const auto read = std::from_chars(port.data(), port.data() + port.size(), number);
  const bool is_number = read.ec == std::errc() && read.ptr == port.data() + port.size();
  if (port == "*" || (is_number && number >= 0 && number <= kMostPort)) return OkStatus();
  return InvalidArgument(what + "a port is a number up to " + std::to_string(kMostPort) +
                         ", or * for any free one");
}

bool IsLocalEndpoint(std::string_view endpoint) {
  for (std::string_view prefix : {"ipc://", "inproc://", "tcp://127.", "tcp://lo:"}) {
    if (endpoint.substr(0, prefix.size()) == prefix) return true;
  }
  return false;
}

}  // namespace packcast::net
