#include "runtime/data/zmq_collective.h"

#include <map>
#include <mutex>
#include <utility>

#include "protocol/limits.h"
#include "runtime/data/zmq_end.h"
#include "runtime/data/zmq_wire.h"

namespace packcast {
namespace {

using net::SocketOptions;
using net::SocketType;

// What both ends have in common on the bulk lane.
SocketOptions BulkOptions() {
  SocketOptions options;
  // A slow member stops reading, for as long as it likes: pings and retransmission limits would
  // take that for a dead connection. Whether a peer is alive is for the actors' beats to say.
  options.heartbeat_interval = Duration::zero();
  options.heartbeat_timeout = Duration::zero();
  options.heartbeat_ttl = Duration::zero();
  options.tcp_max_retransmit = Duration::zero();
  // What is queued when a socket closes has this long to leave: the last seals and grants, or the
  // reason of an abort. Abort waits for it where a peer does not read.
  options.linger = Milliseconds(200);
  // A new connection would not know what the old one lost.
  options.reconnect_first = Milliseconds(-1);
  options.reconnect_max = Duration::zero();
  options.router_handover = false;
  return options;
}

class ZmqTransport final : public Transport {
 public:
  explicit ZmqTransport(ZmqTransportOptions options) : options_(std::move(options)) {}

  std::string_view kind() const override { return "zmq"; }
  StatusOr<Rendezvous> MakeRendezvous(GenerationId generation) override;
  StatusOr<std::unique_ptr<Collective>> Join(const JoinOptions& options) override;
  void Forget(GenerationId generation) override {
    std::lock_guard lock(mutex_);
    prepared_.erase(generation);
  }

 private:
  struct Prepared {
    net::ZmqSocket socket;
    Digest token;
  };
  StatusOr<std::unique_ptr<Collective>> JoinAsRoot(const JoinOptions& options);
  StatusOr<std::unique_ptr<Collective>> JoinAsMember(const JoinOptions& options);

  const ZmqTransportOptions options_;
  net::ZmqContext context_;
  std::mutex mutex_;
  std::map<GenerationId, Prepared> prepared_;
};

StatusOr<Rendezvous> ZmqTransport::MakeRendezvous(GenerationId generation) {
  std::lock_guard lock(mutex_);
  if (prepared_.count(generation) > 0) {
    return AlreadyExists("generation " + std::to_string(generation.value) +
                         " has a rendezvous already");
  }
  SocketOptions options = BulkOptions();
  // Gates and seals of all steps in flight fit, and the chunks, which have their own window.
  options.send_high_water = static_cast<int>(4 * kStepsInFlightMax + options_.chunks_in_flight);
  options.receive_high_water = static_cast<int>(4 * kStepsInFlightMax);
  // Members send headers and reasons only. This bounds a frame, not a stranger: libzmq (4.3.4)
  // counts its high-water mark in whole messages, and holds any number of frames of one that does
  // not end (docs/protocol.md, "Security").
  options.max_frame_bytes = zmq_bulk::kReasonBytesMax;
  PC_ASSIGN_OR_RETURN(net::ZmqSocket socket,
                      net::ZmqSocket::Open(context_, SocketType::kRouter, options));
  PC_ASSIGN_OR_RETURN(const std::string endpoint, socket.Bind("tcp://" + options_.host + ":*"));
  const Digest token = zmq_bulk::RandomToken();
  prepared_[generation] = Prepared{std::move(socket), token};
  return Rendezvous{std::string(kind()), zmq_bulk::EncodeBlob({endpoint, token})};
}

StatusOr<std::unique_ptr<Collective>> ZmqTransport::Join(const JoinOptions& options) {
  PC_RETURN_IF_ERROR(CheckJoin(options, kind()));
  return options.rank == options.root ? JoinAsRoot(options) : JoinAsMember(options);
}

StatusOr<std::unique_ptr<Collective>> ZmqTransport::JoinAsRoot(const JoinOptions& options) {
  std::lock_guard lock(mutex_);
  const auto found = prepared_.find(options.generation);
  if (found == prepared_.end()) {
    return NotFound("generation " + std::to_string(options.generation.value) +
                    " has no rendezvous here");
  }
  Prepared prepared = std::move(found->second);
  prepared_.erase(found);
  return zmq_bulk::MakeRoot(options, options_, std::move(prepared.socket), prepared.token);
}

StatusOr<std::unique_ptr<Collective>> ZmqTransport::JoinAsMember(const JoinOptions& options) {
  PC_ASSIGN_OR_RETURN(const zmq_bulk::Blob blob, zmq_bulk::DecodeBlob(options.rendezvous.blob));
  SocketOptions socket_options = BulkOptions();
  socket_options.send_high_water = static_cast<int>(4 * kStepsInFlightMax);
  // What may wait in memory here while the consumer unpacks: chunks that the kernel's buffers
  // would hold anyway.
  socket_options.receive_high_water = static_cast<int>(options_.chunks_in_flight);
  socket_options.max_frame_bytes = limits::kBulkFrameBytes;
  PC_ASSIGN_OR_RETURN(net::ZmqSocket socket,
                      net::ZmqSocket::Open(context_, SocketType::kDealer, socket_options));
  PC_RETURN_IF_ERROR(socket.Connect(blob.endpoint));
  return zmq_bulk::MakeMember(options, options_, std::move(socket), blob.token);
}

}  // namespace

StatusOr<std::unique_ptr<Transport>> MakeZmqTransport(ZmqTransportOptions options) {
  if (options.chunk_bytes < limits::kAlignBytes || options.chunk_bytes % limits::kAlignBytes != 0 ||
      options.chunk_bytes > limits::kBulkFrameBytes) {
    return InvalidArgument("chunk_bytes " + std::to_string(options.chunk_bytes) +
                           " is not a multiple of 256 up to " +
                           std::to_string(limits::kBulkFrameBytes));
  }
  if (options.chunks_in_flight == 0 || options.chunks_in_flight > 1024) {
    return InvalidArgument("chunks_in_flight must be 1 to 1024");
  }
  return std::unique_ptr<Transport>(std::make_unique<ZmqTransport>(std::move(options)));
}

}  // namespace packcast
