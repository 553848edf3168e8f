#pragma once

#include <atomic>
#include <cstdint>

#include "protocol/digest.h"
#include "protocol/limits.h"
#include "protocol/plan.h"
#include "protocol/time.h"
#include "runtime/data/buffer_ring.h"

namespace packcast {

// What producer and consumers of a packed broadcast must agree on, and where their buffers come
// from. Unequal settings are refused at the first step that differs.
struct BroadcastOptions {
  // buffer_bytes and everything else of the layout. `direct_rows` names the rows that may travel
  // direct.
  PlanOptions plan = {.buffer_bytes = limits::kBufferBytesDefault};
  uint32_t buffer_count = limits::kBufferCountDefault;  // this side's own; need not be equal

  // A hash of every region, sealed per step and verified by each consumer. Equal on all ranks, or
  // the consumers refuse the first step.
  bool hash = true;

  // When given, every row and region is checked against them; both or none. Must outlive the run.
  const Manifest* manifest = nullptr;
  const Plan* expected = nullptr;

  // Buffers lent by the caller (at least plan.buffer_bytes each); else a ring of our own.
  BufferRing* ring = nullptr;
  Allocator* allocator = HostAllocator();

  // Direct steps that this side has open at one time, at most.
  uint32_t direct_steps_in_flight = 4;
  // Producer: finished means that all consumers said so, not only that everything has left. If
  // false, the collective must still outlive the consumers' finish: to destroy it is to take back
  // what they have not read yet, and they fail.
  bool wait_for_members = true;

  // Run gives up on a rank that it feeds and that keeps it from going on for so long: it is the
  // collective's culprit then. Zero: it waits until the deadline. Not before `stall_from`.
  Duration stall{};
  Time stall_from{};
  // When given, as a Time's count: another rank said that it keeps all from going on until then.
  // Both times count from there again. Read all the while; must outlive the run.
  const std::atomic<Time::rep>* put_off_until = nullptr;
};

// Where the time of a run went, in seconds on the driving thread. What overlaps is not counted
// twice: a wait counts only while nothing else could be done.
struct PhaseSeconds {
  double source = 0;  // in Next of TensorSource or RowSource, in the transform; until Ready
  double credit = 0;  // root: waiting for grants
  double pack = 0;
  double send = 0;     // root: waiting for buffers to leave
  double receive = 0;  // member: waiting for gates and bytes
  double unpack = 0;   // member: copies to targets, callbacks
  double hash = 0;
};

struct BroadcastResult {
  Digest content_digest;    // over all regions; zero when hashing is off
  uint64_t bytes = 0;       // of tensors
  uint64_t wire_bytes = 0;  // padding included
  uint64_t rows = 0;
  uint64_t steps = 0;
  PhaseSeconds seconds;
};

}  // namespace packcast
