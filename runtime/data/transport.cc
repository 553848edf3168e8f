#include "runtime/data/transport.h"

#include "protocol/limits.h"
#include "runtime/data/buffer_ring.h"

namespace packcast {

Allocator* Transport::allocator() { return HostAllocator(); }

Status CheckJoin(const JoinOptions& options, std::string_view kind) {
  if (options.rendezvous.kind != kind) {
    return InvalidArgument("a rendezvous of kind \"" + options.rendezvous.kind +
                           "\" cannot be joined over \"" + std::string(kind) + "\"");
  }
  if (options.size == 0 || options.size > limits::kMembers || options.rank >= options.size ||
      options.root >= options.size) {
    return InvalidArgument("rank " + std::to_string(options.rank) + " and root " +
                           std::to_string(options.root) + " must be below the size " +
                           std::to_string(options.size));
  }
  if (!options.names.empty() && options.names.size() != options.size) {
    return InvalidArgument(std::to_string(options.names.size()) + " names for " +
                           std::to_string(options.size) + " ranks");
  }
  return OkStatus();
}

}  // namespace packcast
