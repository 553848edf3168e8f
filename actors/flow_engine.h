#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "actors/member_machine.h"
#include "actors/source_pump.h"
#include "protocol/plan.h"
#include "runtime/data/buffer_ring.h"
#include "runtime/data/collective.h"
#include "runtime/data/data_thread.h"
#include "runtime/data/packed_consumer.h"
#include "runtime/data/packed_producer.h"
#include "runtime/data/target_map.h"
#include "runtime/data/transport.h"
#include "runtime/data/unpack_table.h"

namespace packcast {

// A member's data path: plan, buffers, the present generation's collective and the data thread
// that streams over it. Owned by a member's shell and used from its actor; results come through
// `post`, from the data thread. Generations live over epochs until closed or aborted.
class FlowEngine {
 public:
  using Post = std::function<void(MemberEvent)>;

  // `transports` outlive the engine.
  FlowEngine(std::vector<Transport*> transports, Post post);
  ~FlowEngine();

  // Before anything else; the rank is known by it in flows.
  void SetSelf(const MemberId& self) { self_ = self; }
  // Plans and allocates for an attempt; a root gets its rendezvous too. Kept while manifest and
  // contract stay. Any one thread at a time, never while a stream runs.
  PrepareDone Prepare(const PrepareAttempt& attempt);
  // Answers GenerationReady.
  void Join(const JoinGeneration& join);
  void Close(GenerationId generation);
  // Streams of the prepared attempt; answer StreamDone. The stream's job has ended when
  // StreamDone or the Abort's AbortDone is posted.
  void StreamOut(const EpochKey& key, std::shared_ptr<SourcePump> source);
  // `early`: the root may take until the contract's prepare_deadline to begin.
  void StreamIn(const EpochKey& key, bool early, std::shared_ptr<const TargetMap> targets,
                UnpackCallback callback);
  // Cancels what runs, retires the generation, then calls `done` on the data thread.
  void Abort(const std::string& reason, std::function<void(AbortOutcome)> done);

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

    // The member that a failure is about; "" when it is about none.
    std::string NameOf(std::optional<uint32_t> rank) const;
  };
  struct Prepared {
    EpochKey key;
    std::shared_ptr<const Manifest> manifest;
    std::shared_ptr<const Contract> contract;
    Digest contract_digest;
    Plan plan;
    PlanOptions options;
    std::shared_ptr<BufferRing> ring;
    Allocator* allocator = nullptr;  // the ring's
    // A device's copy work, by the serial of the targets that it goes to: a bank each. The data
    // thread's.
    std::map<uint64_t, std::shared_ptr<const UnpackTable>> tables;
  };

  Transport* FindTransport(const std::string& kind) const;
  // Tells the machine what this rank offers now. Any thread.
  void PostOffer();
  std::optional<uint32_t> MyRank(const Flow& flow) const;
  Status MakePlanAndBuffers(const PrepareAttempt& attempt);
  Status MakeBuffers(const Contract& contract, const PlanOptions& options);
  // Of the prepared flow; null on the host.
  const DevicePath* Device() const;
  BroadcastOptions Options() const;
  StatusOr<std::shared_ptr<const UnpackTable>> TableFor(const TargetMap& targets,
                                                        const BroadcastOptions& options);
  void Submit(DataThread::Job job, std::function<void(const Status&)> rejected);
  template <class Run>
  void Stream(const EpochKey& key, Duration limit, Run run);

  MemberId self_;
  const std::vector<Transport*> transports_;
  const Post post_;
  Prepared prepared_;
  std::shared_ptr<Generation> generation_;
  std::shared_ptr<CancelToken> running_;
  std::atomic<uint64_t> held_bytes_{0};  // by the ring
  mutable std::mutex mutex_;             // guards watched_, which other threads read
  std::shared_ptr<Generation> watched_;
  DataThread data_thread_;  // last: joins before the rest goes
};

}  // namespace packcast
