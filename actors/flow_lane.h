#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "protocol/contract.h"
#include "protocol/manifest.h"
#include "protocol/messages.h"
#include "protocol/plan.h"
#include "runtime/data/buffer_ring.h"
#include "runtime/data/collective.h"
#include "runtime/data/copy_engine.h"
#include "runtime/data/data_thread.h"
#include "runtime/data/packed_consumer.h"
#include "runtime/data/target_map.h"
#include "runtime/data/tensor.h"
#include "runtime/data/tensor_batch.h"
#include "runtime/data/transport.h"
#include "runtime/data/unpack_table.h"

namespace packcast {

// What one flow has streamed here, or why it failed.
struct FlowStreamed {
  Status status;
  Digest content_digest;
  uint64_t bytes = 0;
  std::vector<Phase> phases;
  std::string culprit;  // on errors: the member that this rank blames, or ""
};

// One flow of a member at a time: its plan, its buffers, the present generation's collective, and a
// data thread that streams over it. Owned by a FlowEngine and used by its threads: Prepare and
// MakeRendezvous are never called beside a stream, but an Abort may come meanwhile; all else is
// called on the member's actor, except where a comment says "any thread".
class FlowLane {
 public:
  struct Shared {
    std::vector<Transport*> transports;       // outlive the lane
    std::function<void()> offer_changed;      // any thread
    std::atomic<uint64_t> held_bytes{0};      // by all lanes' rings
    std::atomic<Time::rep> put_off_until{0};  // a member is busy: see BroadcastOptions
  };
  // `main` lanes copy with the transports' own engines, others with engines of their own.
  FlowLane(std::shared_ptr<Shared> shared, bool main);
  ~FlowLane();

  // A flow of which this rank is a member, and its plan. The contract outlives the lane's work.
  struct Assignment {
    EpochKey key;
    std::shared_ptr<const Manifest> manifest;
    std::shared_ptr<const Contract> contract;
    FlowId flow;
    uint32_t rank = 0;
    GenerationId generation;
    std::shared_ptr<const Plan> plan;
    PlanOptions options;
  };
  // Buffers for it, kept while they fit. An error leaves the lane without any.
  Status Prepare(const Assignment& assignment);
  StatusOr<FlowRendezvous> MakeRendezvous();
  // No flow: gives its buffers back.
  void Release();

  // The second: on errors the member that this rank waited for, or "".
  using Joined = std::function<void(const Status&, const std::string& culprit)>;
  // Joins the generation of the assignment. `done` is called once, on the data thread.
  void Join(FlowRendezvous rendezvous, Joined done);
  void Close();
  // Streams of the assignment, over the generation that was joined. `done` is called once, on the
  // data thread, when nothing of the stream runs any more.
  using Done = std::function<void(FlowStreamed)>;
  // `early`: others may take until the contract's prepare_deadline to begin. Only one of the
  // sources is used: batches from a device's memory. Both live as long as `owner`.
  void StreamOut(bool early, TensorSource* tensors, BatchSource* batches,
                 std::shared_ptr<void> owner, Done done);
  void StreamIn(bool early, std::shared_ptr<const TargetMap> targets, UnpackCallback callback,
                Done done);
  // Cancels what runs, retires the generation, then calls `done` on the data thread.
  void Abort(const std::string& reason, std::function<void(AbortOutcome)> done);
  // Any thread: the stream that runs shall fail, and soon. Its generation is of no use then.
  void BreakOff(const Status& why);

  struct Counters {
    uint64_t launched = 0;
    uint64_t completed = 0;
    uint64_t bytes = 0;
  };
  // Of the running stream. Any thread.
  Counters counters() const;

 private:
  // Shared with jobs of the data thread, which may outlive a Close.
  struct Generation {
    GenerationId id;
    std::unique_ptr<Collective> collective;
    std::vector<std::string> names;  // of the members, by rank

    // The member that the collective's error is about; "" when it is about none, or about the
    // root: who sees only the root go accuses nobody, as it may have gone because of another.
    std::string Accused() const;
  };

  const Flow& flow() const { return now_->contract->flows[now_->flow.value]; }
  StatusOr<Transport*> FindTransport() const;
  Status MakeBuffers();
  void DropBuffers();
  // For the flow's transport; null on the host.
  StatusOr<CopyEngine*> Engine();
  BroadcastOptions Options() const;
  StatusOr<const UnpackTable*> TableFor(const TargetMap& targets, const BroadcastOptions& options);
  void ForgetRendezvous();
  void Submit(DataThread::Job job, std::function<void(const Status&)> rejected);
  Status JoinHere(const DataThread::Context& context, Transport* transport,
                  const JoinOptions& options, const std::shared_ptr<Generation>& generation);
  template <class Run>
  void Stream(bool early, Done done, Run run);
  Status Drain();

  const std::shared_ptr<Shared> shared_;
  const bool main_;
  std::optional<Assignment> now_;
  std::shared_ptr<BufferRing> ring_;
  Allocator* allocator_ = nullptr;  // the ring's
  uint64_t held_bytes_ = 0;         // by the ring
  // A device's copy work of the plan, by the serial of the targets that it goes to: a bank each.
  // The data thread's.
  std::map<uint64_t, std::shared_ptr<const UnpackTable>> tables_;
  std::shared_ptr<Generation> generation_;
  mutable std::mutex mutex_;  // guards what follows, which other threads read
  std::shared_ptr<Generation> watched_;
  std::shared_ptr<CancelToken> running_;
  std::unique_ptr<CopyEngine> own_engine_;  // of a lane that is not the main one; made once
  struct {
    Transport* transport = nullptr;
    GenerationId generation;
  } unused_;  // a rendezvous that was made here and not joined yet: a Prepare may outlast its
              // attempt
  DataThread data_thread_;  // last: joins before the rest goes
};

}  // namespace packcast
