#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "actors/flow_lane.h"
#include "actors/member_machine.h"
#include "actors/source_pump.h"
#include "runtime/data/target_map.h"
#include "runtime/data/transport.h"

namespace packcast {

// A member's data path: of each flow that it is in, a lane. Owned by a member's shell and used from
// its actor; results come through `post`, from data threads. Generations live over epochs until
// closed or aborted.
class FlowEngine {
 public:
  using Post = std::function<void(MemberEvent)>;

  // `transports` outlive the engine.
  FlowEngine(std::vector<Transport*> transports, Post post);
  ~FlowEngine();

  // Before anything else; the rank is known by it in flows.
  void SetSelf(const MemberId& self) { self_ = self; }
  // Plans all flows of the contract, and allocates for those that this rank is in; a root gets its
  // rendezvous too. Kept while manifest and contract stay. Any one thread at a time, never while a
  // stream runs.
  PrepareDone Prepare(const PrepareAttempt& attempt);
  // Answers GenerationsReady: once all are joined, or with the first failure.
  void Join(const JoinGenerations& join);
  void Close(GenerationId generation);
  // Streams of the prepared attempt; answer StreamDone. All of the attempt's streams have ended
  // when StreamDone or the Abort's AbortDone is posted: the first that fails ends the others.
  // `source` has a reader for each of sending_flows(), which are not empty. `early`: others may
  // take until the contract's prepare_deadline to begin.
  void StreamOut(const EpochKey& key, bool early, std::shared_ptr<SourcePump> source);
  void StreamIn(const EpochKey& key, bool early, std::shared_ptr<const TargetMap> targets,
                const UnpackCallback& callback);
  // Whoever keeps the streams from going on until then is not at fault, and their deadlines count
  // from then. Of what runs and what comes. Any thread.
  void PutOff(Time until) { shared_->put_off_until = until.time_since_epoch().count(); }
  // Cancels what runs, retires all generations, then calls `done` on a data thread.
  void Abort(const std::string& reason, std::function<void(AbortOutcome)> done);

  // How many flows of the prepared attempt this rank is the root of.
  size_t sending_flows() const;
  // Of the running streams, together. Any thread.
  FlowLane::Counters counters() const;

 private:
  // A flow of the prepared attempt and the lane that it has here, if any.
  struct Place {
    FlowId flow;
    FlowLane* lane = nullptr;
  };
  struct Slot {
    std::unique_ptr<FlowLane> lane;
    GenerationId generation;  // of the flow that it was last prepared for; 0: none lives
  };
  class Streams;

  // Tells the machine what this rank offers now. Any thread.
  void PostOffer();
  Status MakePlans(const PrepareAttempt& attempt);
  Status PrepareLanes(const PrepareAttempt& attempt, PrepareDone* done);
  std::vector<FlowLane*> ChooseLanes(const PrepareAttempt& attempt);
  std::shared_ptr<Streams> Begin(const EpochKey& key);
  std::vector<FlowLane*> AllLanes() const;

  MemberId self_;
  const Post post_;
  const std::shared_ptr<FlowLane::Shared> shared_;
  // Of the prepared attempt:
  EpochKey key_;
  std::shared_ptr<const Manifest> manifest_;
  std::shared_ptr<const Contract> contract_;
  Digest contract_digest_;
  std::vector<std::pair<PlanOptions, std::shared_ptr<const Plan>>> plans_;  // by flow
  std::vector<Place> places_;  // of the flows that this rank is in
  mutable std::mutex mutex_;   // guards what follows
  std::vector<Slot> slots_;    // grows; lanes stay where they are
};

// Names the plans of all flows of a contract: of one, its digest; of more, XXH3-128 of all, in
// their order (docs/protocol.md, "plan_digest").
Digest PlansDigest(const std::vector<Digest>& plans);

}  // namespace packcast
