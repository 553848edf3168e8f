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

// What a member's options say of the ways that its weights can travel.
struct MemberWays {
  std::optional<NcclTransportOptions> device;
  bool peer_copies = true;
  bool gentle = false;
  bool shared_memory = false;
  std::string host = "127.0.0.1";  // where a root's lanes listen
};

// The ways that a member's weights can travel, the best first. Owned by the member's handle and
// lent to its shell.
class MemberTransports {
 public:
  // For a device's memory peer copies, if wanted, and NCCL; for the host's shared memory, if
  // wanted, and ZeroMQ. Errors: the transports', when none is left.
  static StatusOr<MemberTransports> Make(const MemberWays& ways);

  // What an offer says of them.
  void Describe(Offer* offer) const;
  std::vector<Transport*> pointers() const;

 private:
  Status AddForDevice(const MemberWays& ways);

  std::vector<std::unique_ptr<Transport>> all_;
};

}  // namespace packcast
