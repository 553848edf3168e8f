#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "protocol/contract.h"
#include "protocol/status.h"
#include "runtime/data/cuda/nccl_transport.h"
#include "runtime/data/transport.h"

namespace packcast {

// The ways that a member's weights can travel, the best first. Owned by the member's handle and
// lent to its shell.
class MemberTransports {
 public:
  // For a device's memory peer copies, if wanted, and NCCL; for the host's shared memory, if wanted,
  // and ZeroMQ. `host` is where a root's lanes listen. Errors: the transports', when none is left.
  static StatusOr<MemberTransports> Make(const std::optional<NcclTransportOptions>& device,
                                         bool peer_copies, bool shared_memory,
                                         const std::string& host);

  // What an offer says of them.
  void Describe(Offer* offer) const;
  std::vector<Transport*> pointers() const;

 private:
  Status AddForDevice(NcclTransportOptions options, bool peer_copies, const std::string& host);

  std::vector<std::unique_ptr<Transport>> all_;
};

}  // namespace packcast
