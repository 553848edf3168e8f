#include "actors/flow_engine.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "runtime/data/copy_engine.h"

namespace packcast {

Digest PlansDigest(const std::vector<Digest>& plans) {
  if (plans.size() == 1) return plans.front();
  std::string text;
  for (const Digest& plan : plans) {
    for (const uint64_t word : {plan.hi, plan.lo}) {
      for (int k = 0; k < 8; ++k) text.push_back(static_cast<char>(word >> (8 * k)));
    }
  }
  return HashBytes(text);
}

// The streams of one attempt, on as many data threads: collects how they end. Thread-safe.
class FlowEngine::Streams {
 public:
  Streams(EpochKey key, std::shared_ptr<const Contract> contract, std::vector<Place> places,
          Post post)
      : post_(std::move(post)),
        contract_(std::move(contract)),
        places_(std::move(places)),
        open_(places_.size()) {
    done_.key = std::move(key);
  }

  // Once all have been started: those that started after the first failure end too.
  void Started() {
    std::unique_lock lock(mutex_);
    started_ = true;
    if (failed_) BreakOff(&lock);
  }

  void Ended(FlowId flow, const FlowStreamed& streamed) {
    std::unique_lock lock(mutex_);
    if (streamed.status.ok()) {
      Add(flow, streamed);
    } else if (!failed_) {
      Fail(streamed.status, streamed.culprit);
      // This one counts as open until the others were told: a lane must not be broken off when it
      // works for the next attempt already.
      if (started_) BreakOff(&lock);
    }
    if (--open_ > 0) return;
    lock.unlock();
    post_(std::move(done_));
  }

 private:
  void Fail(const Status& status, const std::string& culprit) {
    failed_ = true;
    done_.status = status;
    done_.culprit = culprit;
  }

  // Two flows carry the same rows to different members, or different ones.
  void Add(FlowId flow, const FlowStreamed& streamed) {
    const std::vector<RowRange>& rows = contract_->flows[flow.value].rows;
    for (const auto& [other, digest] : sums_) {
      if (contract_->flows[other.value].rows != rows) continue;
      if (digest != streamed.content_digest && !failed_) {
        Fail(DataLoss("the bytes of the source changed: flow " + std::to_string(other.value) +
                      " has sent " + ToHex(digest) + ", flow " + std::to_string(flow.value) + " " +
                      ToHex(streamed.content_digest)),
             "");
      }
      AddPhases(streamed.phases);
      return;
    }
    sums_.emplace_back(flow, streamed.content_digest);
    done_.content_digest = Combine(done_.content_digest, streamed.content_digest);
    done_.bytes += streamed.bytes;
    AddPhases(streamed.phases);
  }

  void AddPhases(const std::vector<Phase>& phases) {
    for (const Phase& phase : phases) {
      const auto same = std::find_if(done_.phases.begin(), done_.phases.end(),
                                     [&](const Phase& p) { return p.name == phase.name; });
      if (same == done_.phases.end()) {
        done_.phases.push_back(phase);
      } else {
        same->seconds += phase.seconds;
      }
    }
  }

  // A lane may answer at once, on this thread.
  void BreakOff(std::unique_lock<std::mutex>* lock) {
    const Status why = done_.status.WithContext("another flow failed");
    lock->unlock();
    for (const Place& place : places_) place.lane->BreakOff(why);
    lock->lock();
  }

  const Post post_;
  const std::shared_ptr<const Contract> contract_;
  const std::vector<Place> places_;
  std::mutex mutex_;  // guards what follows
  size_t open_;
  bool started_ = false;
  bool failed_ = false;
  std::vector<std::pair<FlowId, Digest>> sums_;
  StreamDone done_;
};

FlowEngine::FlowEngine(std::vector<Transport*> transports, Post post)
    : post_(std::move(post)), shared_(std::make_shared<FlowLane::Shared>()) {
  shared_->transports = std::move(transports);
  shared_->offer_changed = [this] { PostOffer(); };
}

FlowEngine::~FlowEngine() {
  // All at once: each lane's end may take a while.
  for (FlowLane* lane : AllLanes()) lane->BreakOff(Cancelled("the member stops"));
  slots_.clear();
}

std::vector<FlowLane*> FlowEngine::AllLanes() const {
  std::lock_guard lock(mutex_);
  std::vector<FlowLane*> lanes;
  for (const Slot& slot : slots_) lanes.push_back(slot.lane.get());
  return lanes;
}

void FlowEngine::PostOffer() {
  OfferChanged changed;
  bool has_device = false;
  for (const Transport* transport : shared_->transports) {
    if (!transport->is_usable()) continue;
    changed.transports.push_back(transport->offer());
    if (transport->device() == nullptr) continue;
    has_device = true;
    changed.memory_free = transport->device()->engine->allocator()->FreeBytes();
  }
  changed.memory_held = shared_->held_bytes;
  if (has_device) post_(std::move(changed));
}

// ---- before a stream ----------------------------------------------------------------------------

Status FlowEngine::MakePlans(const PrepareAttempt& attempt) {
  plans_.clear();
  for (const Flow& flow : attempt.contract->flows) {
    PlanOptions options = PlanOptionsOf(*attempt.contract, flow, *attempt.manifest);
    PC_ASSIGN_OR_RETURN(Plan plan, MakePlan(*attempt.manifest, options));
    plans_.emplace_back(std::move(options), std::make_shared<const Plan>(std::move(plan)));
  }
  return OkStatus();
}

// A flow whose generation lives stays in its lane. Others take one that is free.
std::vector<FlowLane*> FlowEngine::ChooseLanes(const PrepareAttempt& attempt) {
  const auto kept = [&](const Slot& slot) {
    return slot.generation.value != 0 &&
           std::any_of(attempt.generations.begin(), attempt.generations.end(),
                       [&](const FlowGeneration& g) { return g.reuse && g.id == slot.generation; });
  };
  std::lock_guard lock(mutex_);
  std::vector<bool> taken;
  for (const Slot& slot : slots_) taken.push_back(kept(slot));
  std::vector<FlowLane*> lanes;
  for (const Place& place : places_) {
    const FlowGeneration& generation = attempt.generations[place.flow.value];
    size_t index = 0;
    while (index < slots_.size() &&
           (generation.reuse ? slots_[index].generation != generation.id : taken[index])) {
      ++index;
    }
    if (index == slots_.size()) {
      slots_.push_back({std::make_unique<FlowLane>(shared_, index == 0), {}});
      taken.push_back(true);
    }
    taken[index] = true;
    slots_[index].generation = generation.id;
    lanes.push_back(slots_[index].lane.get());
  }
  // Before the others allocate.
  for (size_t k = 0; k < slots_.size(); ++k) {
    if (!taken[k]) slots_[k].lane->Release();
  }
  return lanes;
}

Status FlowEngine::PrepareLanes(const PrepareAttempt& attempt, PrepareDone* done) {
  places_.clear();
  for (const Flow& flow : attempt.contract->flows) {
    if (flow.RankOf(self_)) places_.push_back({flow.id, nullptr});
  }
  const std::vector<FlowLane*> lanes = ChooseLanes(attempt);
  for (size_t k = 0; k < places_.size(); ++k) {
    places_[k].lane = lanes[k];
    const FlowId id = places_[k].flow;
    const Flow& flow = attempt.contract->flows[id.value];
    const uint32_t rank = *flow.RankOf(self_);
    const auto& [options, plan] = plans_[id.value];
    PC_RETURN_IF_ERROR(lanes[k]->Prepare({attempt.key, attempt.manifest, attempt.contract, id, rank,
                                          attempt.generations[id.value].id, plan, options}));
    if (!flow.Feeds(rank) || attempt.generations[id.value].reuse) continue;
    PC_ASSIGN_OR_RETURN(FlowRendezvous rendezvous, lanes[k]->MakeRendezvous());
    done->rendezvous.push_back(std::move(rendezvous));
  }
  return OkStatus();
}

PrepareDone FlowEngine::Prepare(const PrepareAttempt& attempt) {
  PrepareDone done;
  done.key = attempt.key;
  const Digest contract_digest = ContractDigest(*attempt.contract);
  const bool same = manifest_ != nullptr && manifest_->digest() == attempt.manifest->digest() &&
                    contract_digest_ == contract_digest;
  key_ = attempt.key;
  if (!same) done.status = MakePlans(attempt);
  if (done.status.ok()) done.status = PrepareLanes(attempt, &done);
  if (!done.status.ok()) {
    manifest_.reset();
    done.rendezvous.clear();
    for (FlowLane* lane : AllLanes()) lane->Release();
  } else if (!same) {
    manifest_ = attempt.manifest;
    contract_digest_ = contract_digest;
  }
  contract_ = attempt.contract;
  if (!same || !done.status.ok()) PostOffer();
  std::vector<Digest> digests;
  for (const auto& [options, plan] : plans_) digests.push_back(plan->digest);
  if (done.status.ok()) done.plan_digest = PlansDigest(digests);
  return done;
}

void FlowEngine::Join(const JoinGenerations& join) {
  struct Joining {
    std::mutex mutex;
    size_t open = 0;
    bool told = false;
  };
  const auto joining = std::make_shared<Joining>();
  joining->open = join.rendezvous.size();
  const auto tell = [this, joining, key = join.key](const Status& status,
                                                    const std::string& culprit) {
    PostOffer();  // first: whoever failed here is asked anew
    {
      std::lock_guard lock(joining->mutex);
      --joining->open;
      if (joining->told || (status.ok() && joining->open > 0)) return;
      joining->told = true;
    }
    post_(GenerationsReady{key, status, culprit});
  };
  for (const FlowRendezvous& rendezvous : join.rendezvous) {
    const auto place = std::find_if(places_.begin(), places_.end(), [&](const Place& p) {
      return p.flow == rendezvous.flow && p.lane != nullptr;
    });
    if (place == places_.end() || key_ != join.key) {
      tell(Internal("asked to join a flow that this rank is not in"), "");
    } else {
      place->lane->Join(rendezvous, tell);
    }
  }
}

void FlowEngine::Close(GenerationId generation) {
  std::lock_guard lock(mutex_);
  for (Slot& slot : slots_) {
    if (slot.generation != generation) continue;
    slot.generation = {};
    slot.lane->Close();
  }
}

// ---- streams ------------------------------------------------------------------------------------

size_t FlowEngine::sending_flows() const {
  return static_cast<size_t>(std::count_if(places_.begin(), places_.end(), [&](const Place& p) {
    return contract_->flows[p.flow.value].root_member() == self_;
  }));
}

// Null, and answered, when there is nothing prepared to stream.
std::shared_ptr<FlowEngine::Streams> FlowEngine::Begin(const EpochKey& key) {
  if (key_ != key || contract_ == nullptr || places_.empty()) {
    StreamDone done;
    done.key = key;
    done.status = Internal("asked to stream without a plan");
    post_(std::move(done));
    return nullptr;
  }
  return std::make_shared<Streams>(key, contract_, places_, post_);
}

void FlowEngine::StreamOut(const EpochKey& key, bool early, std::shared_ptr<SourcePump> source) {
  const std::shared_ptr<Streams> streams = Begin(key);
  if (streams == nullptr) return;
  size_t reader = 0;
  for (const Place& place : places_) {
    place.lane->StreamOut(early, source->tensors(reader), source->batches(reader), source,
                          [streams, flow = place.flow](const FlowStreamed& streamed) {
                            streams->Ended(flow, streamed);
                          });
    ++reader;
  }
  streams->Started();
}

void FlowEngine::StreamIn(const EpochKey& key, bool early, std::shared_ptr<const TargetMap> targets,
                          const UnpackCallback& callback) {
  const std::shared_ptr<Streams> streams = Begin(key);
  if (streams == nullptr) return;
  for (const Place& place : places_) {
    place.lane->StreamIn(early, targets, callback,
                         [streams, flow = place.flow](const FlowStreamed& streamed) {
                           streams->Ended(flow, streamed);
                         });
  }
  streams->Started();
}

void FlowEngine::Abort(const std::string& reason, std::function<void(AbortOutcome)> done) {
  struct Aborting {
    std::atomic<size_t> open{0};
    std::atomic<AbortOutcome> worst{AbortOutcome::kClean};
  };
  std::vector<FlowLane*> lanes;
  {
    std::lock_guard lock(mutex_);
    // A member that never had a flow has a data thread all the same, to answer on.
    if (slots_.empty()) slots_.push_back({std::make_unique<FlowLane>(shared_, true), {}});
    for (Slot& slot : slots_) {
      slot.generation = {};
      lanes.push_back(slot.lane.get());
    }
  }
  const auto aborting = std::make_shared<Aborting>();
  aborting->open = lanes.size();
  for (FlowLane* lane : lanes) {
    lane->Abort(reason, [aborting, done](AbortOutcome outcome) {
      if (outcome != AbortOutcome::kClean) aborting->worst = outcome;
      if (--aborting->open == 0) done(aborting->worst);
    });
  }
}

FlowLane::Counters FlowEngine::counters() const {
  FlowLane::Counters sum;
  for (const FlowLane* lane : AllLanes()) {
    const FlowLane::Counters counters = lane->counters();
    sum.launched += counters.launched;
    sum.completed += counters.completed;
    sum.bytes += counters.bytes;
  }
  return sum;
}

}  // namespace packcast
