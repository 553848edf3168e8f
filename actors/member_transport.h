#pragma once

#include <memory>
#include <optional>
#include <string>

#include "protocol/contract.h"
#include "protocol/status.h"
#include "runtime/data/cuda/nccl_transport.h"
#include "runtime/data/transport.h"

namespace packcast {

// The one way that a member's weights travel: NCCL for a device's memory, ZeroMQ for the host's.
// `host` is where its bulk or control lane listens when it is the root.
StatusOr<std::unique_ptr<Transport>> MakeMemberTransport(
    const std::optional<NcclTransportOptions>& device, const std::string& host);

// What the transport makes of an offer.
void OfferTransport(const Transport& transport, Offer* offer);

}  // namespace packcast
