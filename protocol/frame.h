#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/ids.h"
#include "protocol/status.h"
#include "protocol/value.h"

namespace packcast {

// A message is two frames: the envelope, a msgpack map with the short keys below, and the body,
// one msgpack value (an absent or empty frame is nil), and those of the byte ranges that it refers
// to. docs/protocol.md is the normative text.
inline constexpr uint64_t kProtocolMajor = 1;
inline constexpr uint64_t kProtocolMinor = 0;

enum class FrameKind : int {
  kHello = 0,    // first message of a connection; body: Hello
  kWelcome = 1,  // its answer; body: Hello of the other side
  kRefused = 2,  // or the reason why not (code, message)
  kCall = 3,
  kReply = 4,
  kTell = 5,
  kBeat = 6,         // alive; body: map from actor to progress counter
  kBye = 7,          // orderly end of the node, or of the actor named by `from`
  kUnsupported = 8,  // answer to a kind that the receiver does not know
  kBatch = 9,        // several calls, tells, replies and byes; body: see batch.h
};

// "hello", "call" and so on: the text on the wire.
std::string_view FrameKindName(FrameKind kind);

// An actor and one life of it. Incarnation 0 in `to` means any life.
struct FrameAddress {
  std::string actor;
  Incarnation incarnation;
  friend bool operator==(const FrameAddress&, const FrameAddress&) = default;
};

// The envelope. A plain value. Fields that hold their default are left out on the wire.
struct Envelope {
  uint64_t major = kProtocolMajor;  // "v": [major, minor]
  uint64_t minor = kProtocolMinor;
  FrameKind kind = FrameKind::kTell;         // "k": text
  FrameAddress from;                         // "from": [actor, incarnation]
  FrameAddress to;                           // "to": [actor, incarnation]
  CallId call_id;                            // "id"; calls and replies
  std::string method;                        // "m"; calls and tells
  std::optional<uint64_t> deadline_ms;       // "ttl": what is left when sent; calls
  bool control = false;                      // "c"
  bool idempotent = false;                   // "idem": the callee recognises repeated calls
  Status status;                             // "code", "msg", "out"; replies, refused
  std::vector<std::string> must_understand;  // "must": keys that may not be ignored
};

// Body of hello and welcome.
struct Hello {
  std::string cluster;
  std::string node;
  Incarnation incarnation;
  bool beats = false;  // sends beats; silence then means trouble
  uint64_t beat_ms = 0;
  // In a hello: the actor looked for, or "". In a welcome: that actor and its incarnation.
  std::string actor;
  Incarnation actor_incarnation;
  bool batches = false;  // may be sent batches
  // In a hello: counts the connections of who says it, from 1; 0: it does not count them.
  uint64_t connection = 0;
  // In a hello: the life of this node whose place it takes, as the refusal of an earlier hello
  // said; 0: none said so.
  Incarnation earlier = {};
  bool ranges = false;  // may be sent byte ranges apart from bodies (codec.h)
};

std::string EncodeEnvelope(const Envelope& envelope);

// Shape, limits and semantics. Unknown keys are ignored unless "must" lists them. Errors:
// kInvalidArgument for bad input, kUnimplemented for another major version, an unknown kind, or an
// unknown key that must be understood. On kUnimplemented `partial`, if given, holds what could be
// read (from, to and call id), so that an answer can be sent.
StatusOr<Envelope> DecodeEnvelope(std::string_view bytes, Envelope* partial = nullptr);

Value EncodeHello(const Hello& hello);
StatusOr<Hello> DecodeHello(const Value& body);

}  // namespace packcast
