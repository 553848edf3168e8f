#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "protocol/time.h"

// Every bound of the wire and of the machines, in one place. Exceeding one is a clear error,
// never an allocation. docs/protocol.md repeats those that peers must know.
namespace packcast::limits {

// Names: actors, members, replicas, clusters, methods.
inline constexpr size_t kNameBytes = 256;
inline bool IsName(std::string_view name) { return !name.empty() && name.size() <= kNameBytes; }
// A tensor's name.
inline constexpr size_t kTensorNameBytes = 1024;
inline constexpr size_t kTensorRank = 32;
// Rows of a manifest, and rows in one manifest.part message.
inline constexpr size_t kManifestRows = 1'000'000;
inline constexpr size_t kManifestPartRows = 4096;
// A model's bytes: 1 PiB. Keeps every sum of sizes far from overflow.
inline constexpr uint64_t kModelBytes = uint64_t{1} << 50;

// One ZeroMQ frame on the control lane and on the bulk lane.
inline constexpr size_t kControlFrameBytes = 16u << 20;
inline constexpr size_t kBulkFrameBytes = 8u << 20;

// Byte ranges that travel as frames of their own behind a message's body: how long they are at
// least, of one message how many and how much.
inline constexpr size_t kApartBytes = 64u << 10;
inline constexpr size_t kApartRanges = 16;
inline constexpr size_t kApartTotalBytes = 32u << 20;
// Frames that are read of one message, its routing id among them; and on the control lane.
inline constexpr size_t kFramesPerMessage = 8;
inline constexpr size_t kControlFrames = 3 + kApartRanges;

// msgpack shapes.
inline constexpr size_t kValueDepth = 16;
inline constexpr size_t kValueItems = 1u << 17;   // per array or map
inline constexpr size_t kDecodeItems = 1u << 20;  // of all arrays and maps of one value
inline constexpr size_t kStringBytes = 1u << 20;
// The text of a status, in an envelope or a message: longer ones are cut.
inline constexpr size_t kStatusTextBytes = 16u << 10;
inline constexpr size_t kBytesBytes = 8u << 20;

// Buffers of the packed broadcast.
inline constexpr uint64_t kBufferBytesMin = 256;
inline constexpr uint64_t kBufferBytesMax = uint64_t{64} << 30;
inline constexpr uint64_t kBufferBytesDefault = uint64_t{1} << 30;
inline constexpr uint32_t kBufferCountMin = 1;
inline constexpr uint32_t kBufferCountMax = 64;
inline constexpr uint32_t kBufferCountDefault = 2;
inline constexpr uint64_t kAlignBytes = 256;
// Steps of one plan, so that a tiny buffer with a huge model is refused instead of planned.
inline constexpr size_t kPlanSteps = 1u << 22;

// The counter of a term. Far from overflow: a coordinator goes beyond what any member promised.
inline constexpr uint64_t kTermCounter = uint64_t{1} << 62;

// Transports in one offer; the name of each, and of its library, has at most kNameBytes.
inline constexpr size_t kTransports = 64;

// Flows of one contract: transports times roots.
inline constexpr size_t kFlows = 64;

// Phases that one rank's report of an attempt is made of; more are left out.
inline constexpr size_t kPhases = 64;

// Receivers in one chain of peer copies: with each, a buffer more passes before the last byte has
// arrived, and from so many on NCCL's own chain of small pieces is as fast.
inline constexpr uint32_t kChainReceivers = 7;

// Members of a cluster, calls in flight per peer, messages queued per actor.
inline constexpr size_t kMembers = 8192;
inline constexpr size_t kCallsInFlight = 4096;
inline constexpr size_t kMailboxMessages = 65536;
// How long a process may say that it is busy, and what it may say of it.
inline constexpr Duration kBusyTime = Seconds(600);
inline constexpr size_t kBusyTextBytes = 256;
// What waits for one peer to read: as many messages, and no more bytes than this.
inline constexpr size_t kQueuedBytes = 256u << 20;
// Of byte ranges in replies that a peer has asked for and not read: then it may not ask for more.
inline constexpr size_t kOwedBytes = 1u << 30;

}  // namespace packcast::limits
