#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/status.h"
#include "protocol/value.h"

namespace packcast {

// What the root of a peer flow says about an operation: where its bytes lie. Normative in
// docs/protocol.md ("peer").
struct PeerNote {
  // An allocation of the root's that was not named before in this generation.
  struct Opened {
    uint64_t number = 0;
    uint64_t bytes = 0;
    Bytes handle;
  };
  struct Part {
    uint64_t number = 0;  // of an allocation
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };
  std::vector<uint64_t> closed;  // allocations that are not read any more
  std::vector<Opened> opened;
  std::vector<Part> parts;  // end to end
};

// msgpack: map of "closed", "opened" and "parts", arrays of arrays.
std::string EncodePeerNote(const PeerNote& note);
// kInternal (a protocol error) for anything else; no part of it goes into the error.
StatusOr<PeerNote> DecodePeerNote(std::string_view text);

}  // namespace packcast
