#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "actors/weight_source.h"
#include "protocol/contract.h"
#include "protocol/manifest.h"
#include "protocol/status.h"

namespace packcast {

// Resolves an asynchronous callback; call it exactly once, from any thread.
using Done = std::function<void(Status)>;

// Where a part of a row goes.
struct Target {
  enum class Kind : uint8_t { kMemory, kCallback, kSkip };
  Kind kind = Kind::kSkip;
  uint32_t row = 0;
  uint64_t offset = 0;  // in the row's bytes
  uint64_t bytes = 0;
  std::byte* memory = nullptr;  // kMemory: room for `bytes`
};

// A manifest bound to a sink's memory. A bank is one full set of targets that covers every row;
// a sink that flips between two copies gives two banks, and packcast writes them in turn: the one
// that does not serve. A sink that copies on install, or is written in place, gives one.
struct Binding {
  std::vector<std::vector<Target>> banks;
};

// What a sink can do; asked once, when the worker starts.
struct SinkCaps {
  bool staged = true;
  bool in_place = false;
  uint64_t buffer_bytes_max = 0;  // largest buffer it has room for; 0: no limit of its own
  // What was installed lies in the bound memory as it came until packcast writes there again: the
  // worker may send it to those that are behind, while it serves.
  bool can_serve = false;
};

// How an epoch ended for a replica that was quiesced.
enum class EpochOutcome : uint8_t { kCommitted, kAborted };

// Where a worker rank's weights go; implemented by the embedding program (an inference engine).
// Callbacks run on the thread that drives the worker (Worker::Drive), or on its own thread when
// asked (WorkerOptions::own_thread); never two at a time.
class WeightSink {
 public:
  virtual ~WeightSink() = default;
  virtual SinkCaps Caps() = 0;
  // Binds rows to memory by name, once per manifest and install mode. Refuse a mismatch with an
  // error that names the row and both sides' values: the epoch then ends before a byte moved.
  virtual StatusOr<Binding> Bind(const Manifest& manifest, InstallMode mode) = 0;
  // In place only: stop reading live memory, then `done`. Resume follows a commit, or an abort
  // before the first byte. May come again without a Resume between, when an attempt was given up
  // early or an install failed.
  virtual void Quiesce(const EpochInfo& epoch, Done done) = 0;
  virtual void Resume(const EpochInfo& epoch, EpochOutcome outcome) = 0;
  // For rows bound as kCallback: the bytes of one buffer, valid during the call, for any stream.
  virtual Status Load(const EpochInfo& epoch, const TensorGroup& group) = 0;
  // Serve the bank just written, for any stream: every unpack is complete. Idempotent; must not
  // fail halfway.
  virtual void Install(const EpochInfo& epoch, Done done) = 0;
  // The attempt is given up, and its stream had begun: what it wrote is worthless. Staged that is
  // another bank than what serves, in place memory that was quiesced. Never after an Install of the
  // same attempt. Its version may be one that was installed: if that did not verify, it comes again
  // when the worker catches up.
  virtual void Discard(const EpochInfo& epoch) = 0;
};

}  // namespace packcast
