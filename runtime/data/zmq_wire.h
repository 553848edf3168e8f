#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "protocol/digest.h"
#include "protocol/status.h"
#include "protocol/value.h"

namespace packcast::zmq_bulk {

// Messages of the "zmq" transport's bulk lane: one frame of 48 bytes, for three types one
// more frame. Pure encoding; normative in docs/protocol.md ("bulk lane").
enum class Type : uint8_t {
  kHello = 1,     // member: tag = token, extra = rank, sequence = generation, a = size, b = root
  kWelcome = 2,   // root: accepted
  kBegin = 3,     // root: tag begun; members of that stream repeat kGranted
  kGranted = 4,   // member: the first `sequence` steps; a, b = its plan digest
  kGate = 5,      // root: sequence, extra = regions, a = bytes, b = first region; kUnsealed
  kChunk = 6,     // root: sequence, a = offset in the step, b = bytes; second frame: the bytes
  kSeal = 7,      // root: sequence, a, b = checksum; second frame, if any: those of the pieces
  kEnd = 8,       // root: the stream has `sequence` steps
  kFinished = 9,  // member: everything is here and verified
  kAbort = 10,    // anyone: second frame: the reason as text
  kPing = 11,     // root: answered with kPong; finds dead connections
  kPong = 12,     // member: the answer; an unasked one finds a dead connection there
};

struct Header {
  Type type = Type::kHello;
  uint32_t extra = 0;
  Digest tag;  // of the stream; of nothing (zero) in kWelcome, kAbort, kPing and kPong
  uint64_t sequence = 0;
  uint64_t a = 0;
  uint64_t b = 0;
  uint16_t flags = 0;
};

// A flag of kGate: no kSeal will follow.
inline constexpr uint16_t kUnsealed = 1;

inline constexpr size_t kHeaderBytes = 48;
inline constexpr size_t kReasonBytesMax = 1024;

// Little-endian: type, version (1), flags, extra, tag.hi, tag.lo, sequence, a, b.
std::string EncodeHeader(const Header& header);
// False for another length, version or an unknown type.
bool DecodeHeader(std::span<const std::byte> bytes, Header* header);

// The pieces of a seal (StepSeal): little-endian words, at most kSealPiecesMax.
std::string EncodePieces(const std::vector<uint64_t>& pieces);
// False for a length that is no number of words, or too many.
bool DecodePieces(std::span<const std::byte> bytes, std::vector<uint64_t>* pieces);

// The rendezvous: msgpack map of "endpoint" (text) and "token" (16 random bytes).
struct Blob {
  std::string endpoint;
  Digest token;
};
Bytes EncodeBlob(const Blob& blob);
StatusOr<Blob> DecodeBlob(const Bytes& bytes);

// 128 bits from the kernel.
Digest RandomToken();

}  // namespace packcast::zmq_bulk
