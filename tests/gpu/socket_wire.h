#pragma once

#include <memory>

#include "runtime/data/wire.h"

namespace packcast::testing {

// A wire between two ranks over a connected stream socket of the host, in place of NCCL. Each
// broadcast is 8 bytes, its size (little-endian), and its bytes: unlike NCCL it finds out when the
// ranks' sizes differ (kInternal says both). Does not own `socket`.
std::unique_ptr<Wire> MakeSocketWire(int socket, bool is_root);

}  // namespace packcast::testing
