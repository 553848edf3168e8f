#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "actors/weight_sink.h"
#include "protocol/digest.h"
#include "protocol/ids.h"
#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/data/cuda/nccl_transport.h"

namespace packcast {

class Runtime;

struct WorkerOptions {
  std::string name;     // stable over restarts, unique: "worker-3"
  std::string replica;  // ranks of one replica are complete together or nothing
  uint32_t rank = 0;    // in the replica
  uint32_t replica_size = 1;
  std::string model = "default";
  std::string coordinator;        // "tcp://host:port"
  uint64_t buffer_bytes_max = 0;  // largest buffer offered; 0: no limit
  uint32_t buffer_count_max = 0;
  // Address that those reach this rank's bulk lane at that catch up from it (SinkCaps::can_serve);
  // loopback unless they are elsewhere.
  std::string bulk_host = "127.0.0.1";
  // For weights in a GPU's memory, which then come over NCCL or peer copies; nothing: in the
  // host's.
  std::optional<NcclTransportOptions> device;
  // With a device: also offers to copy out of the buffers of a trainer or worker of this host, and
  // that the next worker copies out of this one's: faster than NCCL. Every process of the user can
  // read packcast's buffers then.
  bool peer_copies = true;
  // With peer copies: takes less of the device from an engine that serves meanwhile. A third of the
  // memory traffic, 9 blocks and no buffers, at two thirds of the rate (docs/performance.md).
  // Callbacks are shown the trainer's buffers then, which belong to another GPU.
  bool gentle = false;
  // Also offers shared memory, which is used when all ranks do and are on one host (same boot, PID
  // namespace and user): several times as fast as ZeroMQ. Every process of the user can read it.
  bool shared_memory = false;
  // Run sink callbacks on a thread of packcast's own instead of Drive.
  bool own_thread = false;
  // Called after each install, like a callback; its digest goes into the report.
  std::function<StatusOr<Digest>()> verify;
};

// What a worker serves. `in_service` is false from quiesce to commit, while dirty, and before the
// first version.
struct ServingState {
  Version version;
  uint64_t label = 0;
  uint64_t installs = 0;
  bool dirty = false;
  bool in_service = false;
};

// A worker rank embedded in an inference engine: keeps a session with the coordinator and puts each
// committed version into the sink. Create one per rank and device, and call Drive often, or set
// own_thread. Thread-safe; Drive from one thread at a time. `sink` and `runtime` outlive it.
class Worker {
 public:
  // Errors: kInvalidArgument (options), kAlreadyExists (the name lives in this runtime),
  // kUnavailable or kDeadlineExceeded (no coordinator within `timeout`), and refusals of the
  // coordinator's runtime (version, cluster).
  static StatusOr<std::unique_ptr<Worker>> Start(Runtime* runtime, WorkerOptions options,
                                                 WeightSink* sink, Duration timeout = Seconds(30));
  ~Worker();

  // Runs the sink callbacks that are due; when there is none, waits up to `max_wait` for one. With
  // own_thread it runs none, and waits for the worker's end. An error when the worker is out for
  // good: kCancelled after an orderly end (the cluster's shutdown,
  // Stop), else what is wrong: the coordinator's refusal, or kStale when the name was started
  // again elsewhere.
  Status Drive(Duration max_wait);

  // Lock-free; attribute each rollout to the version that was serving when it began. A version is
  // named from the Drive on in which the sink's Install was done.
  ServingState Serving() const;

  // Leaves the cluster in good order: waits for a callback that runs, and calls none later. Any
  // thread, also from a callback.
  void Stop();

 private:
  class Impl;
  explicit Worker(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace packcast
