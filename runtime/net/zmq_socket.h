#pragma once

#include <zmq.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/status.h"
#include "runtime/net/socket_options.h"

namespace packcast::net {

// One ZeroMQ context: its I/O threads. Thread-safe but for its end: every socket must be gone
// before that, which takes the sockets' linger time at most.
class ZmqContext {
 public:
  explicit ZmqContext(int io_threads = 1);
  ~ZmqContext();
  ZmqContext(const ZmqContext&) = delete;
  ZmqContext& operator=(const ZmqContext&) = delete;
  // Makes its threads now: libzmq does with the first socket, and aborts the process when it
  // cannot. Errors: kResourceExhausted.
  Status Start();
  // Waits for the sockets' linger time, and until ZeroMQ has let go of all memory. Not on a thread
  // of ZeroMQ's own. Every socket must be closed.
  void End();
  void* handle() const { return context_; }

 private:
  void* context_;
  const int io_threads_;
};

// One frame of a message: bytes that ZeroMQ holds, or memory of the caller's. Movable; used by one
// thread at a time.
class Frame {
 public:
  // Called once, from any thread, when ZeroMQ no longer needs the memory.
  using Release = std::function<void()>;

  Frame();
  explicit Frame(std::string_view bytes);  // copies
  explicit Frame(size_t size);             // uninitialised, to be filled through data()
  ~Frame();
  Frame(Frame&& other) noexcept;
  Frame& operator=(Frame&& other) noexcept;
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  // Sends the caller's memory without a copy: it must stay unchanged until `release` is called
  // (also when the message is never sent).
  static Frame Borrow(std::span<const std::byte> memory, Release release);
  // Takes the string over; no copy of its bytes when it is long.
  static Frame Own(std::string bytes);
  // Sends bytes that others may hold as well; no copy of them when there are many.
  static Frame Of(std::shared_ptr<const std::string> bytes);

  // A second owner of the same bytes (reference-counted by ZeroMQ when long).
  Frame Share() const;

  size_t size() const { return zmq_msg_size(&message_); }
  std::byte* data() { return static_cast<std::byte*>(zmq_msg_data(&message_)); }
  const std::byte* data() const {
    return static_cast<const std::byte*>(zmq_msg_data(const_cast<zmq_msg_t*>(&message_)));
  }
  std::span<const std::byte> bytes() const { return {data(), size()}; }
  // The descriptor of the connection by which it came, at that time; -1: it did not. The routing id
  // that a ROUTER puts before a message may say -1 as well.
  int source_fd() const { return zmq_msg_get(const_cast<zmq_msg_t*>(&message_), ZMQ_SRCFD); }
  std::string_view view() const { return {reinterpret_cast<const char*>(data()), size()}; }
  zmq_msg_t* handle() { return &message_; }

 private:
  zmq_msg_t message_;
};

using Frames = std::vector<Frame>;

// What became of a non-blocking send. kFull and kUnroutable leave the frames untouched; with kLost
// and kFailed some are gone. Nothing of a message arrives that was not sent.
enum class SendResult {
  kSent,
  kFull,        // high-water mark reached, or a DEALER without a connection; try again later
  kLost,        // the connection ended between two frames; the next message finds another, or none
  kUnroutable,  // a ROUTER has no connection to that routing id
  kFailed,      // the socket is unusable
};

enum class ReceiveResult {
  kMessage,
  kEmpty,
  kTooManyFrames,  // more than were wanted came; all but the first were dropped
  kFailed,
};

// What happened to a monitored socket's connections.
struct MonitorEvent {
  enum class Kind {
    kConnected,        // the handshake is done
    kDisconnected,     // it was, or had begun
    kTried,            // a connection is being made, or was not: there is such an address
    kRetried,          // none was, or it ended: the next try follows by itself
    kHandshakeFailed,  // the other side hung up, or was silent
    kTurnedAway,       // it said no: libzmq does not connect again
    kAccepted,         // a connection, by a listener
    kAcceptFailed,
    kBindFailed,
    kOther,
  };
  Kind kind = Kind::kOther;
  int value = 0;  // a descriptor, errno or reason, as libzmq gives it
  // Of kTurnedAway: one side has CURVE keys, the other has none.
  bool is_about_curve = false;
  std::string endpoint;
};

// One ZeroMQ socket with every option set from OptionTable. Owned and used by one thread at a time
// (a move between threads needs a full fence). No call ever blocks.
class ZmqSocket {
 public:
  // Errors: kInvalidArgument names the option that libzmq refused.
  static StatusOr<ZmqSocket> Open(ZmqContext& context, SocketType type,
                                  const SocketOptions& options);
  ZmqSocket() = default;
  ~ZmqSocket() { Close(); }
  ZmqSocket(ZmqSocket&& other) noexcept;
  ZmqSocket& operator=(ZmqSocket&& other) noexcept;

  // Binds ("tcp://127.0.0.1:*" or port 0 pick a free port) and returns the real endpoint.
  // `monitor`: of this socket, if it has one; it alone knows then why that failed. Errors:
  // kInvalidArgument (no such address), kUnavailable (it is taken).
  StatusOr<std::string> Bind(const std::string& endpoint, ZmqSocket* monitor = nullptr);
  // Where it was bound last; "": nowhere.
  const std::string& bound() const { return bound_; }
  // Starts to connect; ZeroMQ keeps trying. Call it once or several times (several peers).
  Status Connect(const std::string& endpoint);
  Status Disconnect(const std::string& endpoint);

  // Sends all frames as one message, or none. On kSent `frames` becomes empty.
  SendResult Send(Frames* frames);
  // Takes one whole message, if there is one.
  ReceiveResult Receive(Frames* frames, size_t most = limits::kFramesPerMessage);

  // For who sleeps on fd(): false while Receive may find something that fd() does not tell of. The
  // descriptor is raised once for what has come, and each Send may lower it.
  bool is_drained() const { return is_drained_; }
  // fd() was raised.
  void SetReadable() { is_drained_ = false; }
  // After a Send: whether something has come meanwhile. If not, fd() tells of all that comes.
  bool HasCome();

  // Readable when something may have happened: then call Receive until kEmpty. Edge-triggered: see
  // is_drained().
  int fd() const;
  bool can_receive() const;
  void* handle() const { return socket_; }
  bool is_open() const { return socket_ != nullptr; }
  void Close();

  // A PAIR socket, of the same thread, from which NextMonitorEvent reads this socket's events.
  // Close this socket before it: libzmq sends the monitor a last event, and blocks without one.
  // Errors: kUnavailable (no descriptor left); then nothing is monitored.
  StatusOr<ZmqSocket> OpenMonitor(ZmqContext& context);

 private:
  void* socket_ = nullptr;
  std::string bound_;
  bool is_monitored_ = false;
  bool is_drained_ = false;
};

// The next event of a monitor socket; false when there is none.
bool NextMonitorEvent(ZmqSocket* monitor, MonitorEvent* event);

// Whether ZeroMQ can bind it: it resolves no names for that, and takes any text for a port. Errors
// (kInvalidArgument) say what to bind instead.
Status CheckBindEndpoint(std::string_view endpoint);

// True for endpoints that can be bound, and cannot be reached from another machine (loopback, ipc,
// inproc).
bool IsLocalEndpoint(std::string_view endpoint);

}  // namespace packcast::net
