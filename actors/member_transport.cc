#include "actors/member_transport.h"

#include "runtime/data/zmq_collective.h"

namespace packcast {

StatusOr<std::unique_ptr<Transport>> MakeMemberTransport(
    const std::optional<NcclTransportOptions>& device, const std::string& host) {
  ZmqTransportOptions bulk;
  bulk.host = host;
  if (!device) return MakeZmqTransport(bulk);
  NcclTransportOptions nccl = *device;
  nccl.control.host = host;
  return MakeNcclTransport(nccl);
}

void OfferTransport(const Transport& transport, Offer* offer) {
  offer->transports = {std::string(transport.kind())};
  if (const DevicePath* device = transport.device()) {
    offer->library = device->library;
    offer->direct_bytes_min = device->direct_bytes_min;
  }
}

}  // namespace packcast
