#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/digest.h"
#include "protocol/ids.h"
#include "protocol/status.h"
#include "protocol/time.h"

namespace packcast {

// Names one attempt's stream over one flow. Whatever carries another id is stale and ignored.
struct StreamId {
  Version version;
  Attempt attempt;
  FlowId flow;
  GenerationId generation;
  Digest plan_digest;
  friend bool operator==(const StreamId&, const StreamId&) = default;
};

// XXH3-128 of all fields but the plan digest: what stands for the stream in messages of fixed size.
// The plan digest is compared apart, so that two plans for one stream are an error, not a silence.
Digest StreamTag(const StreamId& stream);

// Memory that an operation reads (root) or writes (member).
struct Span {
  std::byte* data = nullptr;
  uint64_t bytes = 0;
};

// One broadcast: the root's spans, end to end, arrive in the members' spans, end to end. One span
// is a packed buffer; several are direct regions. Both sides name the step's first region and
// number of regions in their own plan, and whether they expect a seal, so that two different plans
// or settings are found out. It has at least one byte.
struct Operation {
  Sequence sequence;
  std::vector<Span> spans;
  uint64_t first_region = 0;
  uint32_t regions = 0;
  bool sealed = true;  // the root says its checksum (Seal), the member waits for it
  // Devices, at the root: events (cudaEvent_t) that fire before the spans may be read.
  std::vector<void*> ready;
  // What the root's transport says to the members' about this operation; at most kNoteBytesMax.
  std::string note;

  uint64_t bytes() const {
    uint64_t total = 0;
    for (const Span& span : spans) total += span.bytes;
    return total;
  }
};

// The checksum of an operation: the sum over its regions. Where the root hashes piece by piece it
// may add the low half of each piece's checksum, in the order of the plan, so that a member can say
// which tensor differs, and where in it.
struct StepSeal {
  Digest digest;
  std::vector<uint64_t> pieces;

  StepSeal() = default;
  StepSeal(const Digest& sum) : digest(sum) {}  // NOLINT: a seal is a digest, mostly
  friend bool operator==(const StepSeal&, const StepSeal&) = default;
};

// Room for the places of as many regions as a step may have, each of memory of its own.
inline constexpr size_t kNoteBytesMax = size_t{256} << 10;

// Pieces that a seal may have; one of more is sent without them.
inline constexpr size_t kSealPiecesMax = size_t{1} << 16;

// What this rank has done in its present stream. Written by the collective, read by any thread;
// the fields are not read at one instant.
struct CollectiveProgress {
  std::atomic<uint64_t> launched{0};   // operations; the next sequence to launch
  std::atomic<uint64_t> completed{0};  // operations whose Done is true; in order
  std::atomic<uint64_t> bytes{0};      // handed over (root: to the slowest member) or received
};

// One rank's end of one generation of one flow: a broadcast from one root in steps that no rank
// starts before those that get them from it have promised to take part. Streams follow one another
// on it: Begin starts each, at sequence 0.
//
// The order for each sequence is Grant (members) -> Ready -> Launch (root) -> Ready -> Launch
// (members) -> Done; Seal follows at any time after the root's Launch. Calls never block, except
// Poll. One thread makes all calls but Wake, Abort, progress and the constant ones, which any
// thread may make. Errors are sticky: after the first, every call returns it. They name the rank
// at fault and what was waited for; kAborted after a local Abort.
class Collective {
 public:
  virtual ~Collective() = default;

  virtual uint32_t rank() const = 0;
  virtual uint32_t size() const = 0;
  virtual uint32_t root() const = 0;
  bool is_root() const { return rank() == root(); }
  // "rank 2 (worker-2)", for errors.
  virtual std::string Describe(uint32_t rank) const = 0;

  // True once all ranks (root) or the root (members) have been heard.
  virtual StatusOr<bool> Joined() = 0;

  // Starts a stream. The previous one must be complete on this rank (kFailedPrecondition): ended,
  // all operations done, a member's Finish called. One that nothing was launched in may be left.
  virtual Status Begin(const StreamId& stream) = 0;

  // Member: the destination of `sequence` is free. Sequences are granted in order, at most
  // kStepsInFlightMax ahead of the completed ones. The root grants nothing.
  virtual Status Grant(Sequence sequence) = 0;

  // Root: every member has granted `sequence`, or in a chain (chain_collective.h) the next rank.
  // Member: the root, or the rank before it, has launched it (its gate is here).
  virtual StatusOr<bool> Ready(Sequence sequence) = 0;

  // Starts an operation that is Ready, in order of sequence. The spans stay valid until Done, or
  // until Abort has returned. A member whose operation differs from the root's in bytes, regions or
  // `sealed` gets kFailedPrecondition with both sides' values. Not sticky: kFailedPrecondition when
  // it is not Ready, kInvalidArgument at the root for one without bytes.
  virtual Status Launch(Operation operation) = 0;

  // Root: whether Launch waits by itself for Operation::ready. Else it comes after they have fired.
  virtual bool awaits_ready() const { return true; }
  // Member: the note of the next operation, which is Ready.
  virtual std::string NextNote() { return {}; }

  // Root: nothing reads the spans any more. Member: all bytes are in the spans, or Landed.
  virtual StatusOr<bool> Done(Sequence sequence) = 0;

  // Member: nobody reads the spans of a Done operation any more, as far as the collective knows;
  // other ranks may, where members pass on what they have. Until then they keep their bytes.
  virtual StatusOr<bool> Spent(Sequence) { return true; }

  // Whether members read the root's memory where it is, instead of getting a copy. A member's spans
  // then have a length and no memory (`data` is null), and an operation is Done at the root when
  // every member has released it.
  virtual bool reads_in_place() const { return false; }
  // Member that reads in place: the bytes of a Done operation, until its Release. They are another
  // process's, which changes them when it has given the stream up: what matters is verified in a
  // copy. The memory stays readable for as long as this object, whatever the root does.
  virtual StatusOr<std::span<const std::byte>> Landed(Sequence sequence);
  // Member that reads in place: it reads the bytes of `sequence` no more. In order of sequence, and
  // before Finish.
  virtual Status Release(Sequence sequence);

  // Root: publishes the checksum of a launched operation. Member: the checksum, once it is here
  // and until the member's Finish; each can be asked until kStepsInFlightMax later ones arrived.
  virtual Status Seal(Sequence sequence, const StepSeal& seal) = 0;
  virtual StatusOr<std::optional<StepSeal>> SealOf(Sequence sequence) = 0;

  // Root: the stream has `steps` operations, all launched. Member: that number, once known.
  virtual Status End(uint64_t steps) = 0;
  virtual StatusOr<std::optional<uint64_t>> EndOf() = 0;

  // Member: everything arrived and was verified. Root: all members said so.
  virtual Status Finish() = 0;
  virtual StatusOr<bool> Finished() = 0;

  // Whether everything said so far (gates, seals and End, or Finish) has left this object, so that
  // no Poll is needed for it. It is still under way: a root that is destroyed before its members
  // have finished takes with it what they have not read.
  virtual StatusOr<bool> Flushed() = 0;

  // Moves bytes and messages; returns after some progress, a Wake, or at most `max_wait`.
  virtual Status Poll(Duration max_wait) = 0;

  // Makes a Poll that waits now, or the next one, return at once. Any thread.
  virtual void Wake() = 0;

  // Gives this rank's part up, for ever. The other ranks get an error that names this one, with
  // `reason` if that gets through (kAborted), else as a lost connection (kUnavailable).
  // Any thread, idempotent. When it has returned OK nothing touches the spans any more. An error
  // (kDeadlineExceeded) means that it cannot be proven: the owner ends the process.
  virtual Status Abort(std::string_view reason) = 0;

  // Frees this rank's thread if it is stuck in what only an abort ends, and returns at once: for
  // those who cannot wait. Abort must follow. Any thread; does nothing where nothing can be stuck.
  virtual void BeginAbort(std::string_view) {}

  // "a grant of step 3 by rank 2 (worker-2)", or "nothing": for a deadline's error. Same thread
  // as the other calls.
  virtual std::string WaitingFor() = 0;

  // The ranks that this one feeds and now waits for: they have not granted, taken or read what
  // comes next. Same thread as the other calls.
  virtual std::vector<uint32_t> Late() { return {}; }
  // This rank waits for `rank`, one of Late(), no more: it becomes the culprit. Abort must follow.
  virtual void Accuse(uint32_t) {}

  // Once there is an error: the other rank that it is about, whose connection closed, whose
  // messages broke the protocol, or who has not joined in time. Nothing where nobody can be blamed
  // from here: other deadlines, settings that differ, checksums, aborts (who aborts knows why, and
  // may itself be a victim). Any thread.
  virtual std::optional<uint32_t> culprit() const = 0;

  virtual const CollectiveProgress& progress() const = 0;
};

// Operations granted or launched and not complete, at most: bounds all queues of a collective.
inline constexpr uint64_t kStepsInFlightMax = 256;

}  // namespace packcast
