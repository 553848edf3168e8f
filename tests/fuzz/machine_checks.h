#pragma once

#include <cstdlib>

#include "protocol/codec.h"
#include "protocol/messages.h"
#include "runtime/base/check.h"
#include "tests/fuzz/fill.h"

namespace packcast::fuzz {

// Effects of one event: a bound that nothing in a small world comes near to.
inline constexpr size_t kEffectsMax = 2000;

// Whether to tell of each event, for people who look at one input: PACKCAST_FUZZ_TRACE=1.
inline bool IsTraced() {
  static const bool traced = std::getenv("PACKCAST_FUZZ_TRACE") != nullptr;
  return traced;
}

// What leaves a machine must be taken by the other side.
template <class Text>
void CheckCanTravel(const Value& body, const Text& what) {
  constexpr DecodeLimits kLimits = {.string_bytes = kTextBytes};
  const Status fits = CheckEncodable(body, kLimits);
  PC_CHECK(fits.ok()) << what << ": " << fits;
}

template <class Message>
void CheckMessage(const Message& message) {
  CheckCanTravel(MessageBody(message), MessageName(message));
}

}  // namespace packcast::fuzz
