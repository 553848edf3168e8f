#include "actors/member_transport.h"

#include <utility>

#include "runtime/data/shm_transport.h"
#include "runtime/data/zmq_collective.h"

namespace packcast {

StatusOr<MemberTransports> MemberTransports::Make(const std::optional<NcclTransportOptions>& device,
                                                  bool shared_memory, const std::string& host) {
  ZmqTransportOptions words;
  words.host = host;
  MemberTransports transports;
  if (device) {
    NcclTransportOptions options = *device;
    options.control.host = host;
    PC_ASSIGN_OR_RETURN(auto nccl, MakeNcclTransport(options));
    transports.all_.push_back(std::move(nccl));
    return transports;
  }
  if (shared_memory) {
    const std::optional<std::string> kind = LocalShmKind();
    if (!kind) {
      return Unavailable("shared memory was asked for, but /proc does not say which host this is");
    }
    PC_ASSIGN_OR_RETURN(auto shm, MakeShmTransport({.kind = *kind, .control = words}));
    transports.all_.push_back(std::move(shm));
  }
  PC_ASSIGN_OR_RETURN(auto zmq, MakeZmqTransport(words));
  transports.all_.push_back(std::move(zmq));
  return transports;
}

void MemberTransports::Describe(Offer* offer) const {
  for (const auto& transport : all_) {
    offer->transports.emplace_back(transport->kind());
    if (const DevicePath* device = transport->device()) {
      offer->library = device->library;
      offer->direct_bytes_min = device->direct_bytes_min;
    }
  }
}

std::vector<Transport*> MemberTransports::pointers() const {
  std::vector<Transport*> pointers;
  for (const auto& transport : all_) pointers.push_back(transport.get());
  return pointers;
}

}  // namespace packcast
