#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "actors/weight_source.h"
#include "protocol/status.h"
#include "protocol/time.h"
#include "protocol/value.h"
#include "runtime/data/cuda/nccl_transport.h"

namespace packcast {

class Runtime;

struct TrainerOptions {
  std::string name = "trainer-0";  // stable over restarts, unique
  std::string unit = "trainer";    // all trainer ranks of the model
  uint32_t rank = 0;  // in the unit; sends what it holds and no rank before it (WeightSource::Held)
  uint32_t unit_size = 1;
  std::string model = "default";
  std::string coordinator;  // "tcp://host:port"
  uint64_t buffer_bytes_max = 0;
  uint32_t buffer_count_max = 0;
  // Address that workers reach this rank's bulk lane at; loopback unless they are elsewhere.
  std::string bulk_host = "127.0.0.1";
  // For weights in a GPU's memory, which then go over NCCL; nothing: in the host's.
  std::optional<NcclTransportOptions> device;
  // With a device: also offers that workers of this host copy out of the trainer's buffers, and out
  // of each other's, which is faster than NCCL. Every process of the user can read packcast's
  // buffers then.
  bool peer_copies = true;
  // Also offers shared memory, which is used when all ranks do and are on one host (same boot, PID
  // namespace and user): several times as fast as ZeroMQ. Every process of the user can read it.
  bool shared_memory = false;
};

// How a sync ended: OK when the version is committed. The report (docs/protocol.md, "Reports") is
// there for ended epochs, committed or not.
struct SyncResult {
  Status status;
  Value report;
};

struct SyncOptions {
  SyncKind kind = SyncKind::kFull;
  // Called on the caller's thread once the source's bytes may change again.
  std::function<void()> source_free;
};

// A trainer rank embedded in a training loop. Thread-safe. Has one sync at a time: a second Sync
// gets Busy. (A coordinator queues one more, for trainers of another make.) `source` and `runtime`
// outlive it.
class Trainer {
 public:
  // Errors: as Worker::Start.
  static StatusOr<std::unique_ptr<Trainer>> Start(Runtime* runtime, TrainerOptions options,
                                                  WeightSource* source,
                                                  Duration timeout = Seconds(30));
  ~Trainer();

  // Sends the source's weights to all workers as `label` (the caller's own step number); every rank
  // of the unit calls it with the same label. Drives the source on this thread, and returns when
  // the epoch is decided and installed or given up, at the latest `deadline` plus a grace for the
  // abort (kDeadlineExceeded). Bytes of the source stay constant until then, or `source_free`.
  SyncResult Sync(uint64_t label, Duration deadline, const SyncOptions& options = {});

  // The label of a sync that a script asked for; nothing within `max_wait`. Drives what is due for
  // the source meanwhile, unless another thread does. Up to 16 requests wait, further ones get
  // Busy. An error when the trainer is out for good: kCancelled after an orderly end (the cluster's
  // shutdown, Stop), else what is wrong: the coordinator's refusal, or kStale when the name was
  // started again elsewhere.
  StatusOr<std::optional<uint64_t>> WaitForRequest(Duration max_wait);

  // Leaves the cluster in good order; a Sync that runs ends with kCancelled. Any thread.
  void Stop();

 private:
  class Impl;
  explicit Trainer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packcast
