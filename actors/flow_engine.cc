#include "actors/flow_engine.h"

#include <algorithm>
#include <utility>

#include "runtime/base/clock.h"
#include "runtime/data/device_consumer.h"
#include "runtime/data/device_producer.h"

namespace packcast {
namespace {

constexpr Duration kJoinPoll = Milliseconds(100);
constexpr Duration kDrainTimeout = Seconds(5);

std::vector<Phase> PhasesOf(const PhaseSeconds& seconds, bool root) {
  if (root) {
    return {{"source", seconds.source},
            {"wait_credit", seconds.credit},
            {"pack", seconds.pack},
            {"send", seconds.send},
            {"hash", seconds.hash}};
  }
  return {{"receive", seconds.receive}, {"unpack", seconds.unpack}, {"hash", seconds.hash}};
}

}  // namespace

FlowEngine::FlowEngine(std::vector<Transport*> transports, Post post)
    : transports_(std::move(transports)), post_(std::move(post)), data_thread_("data") {}

FlowEngine::~FlowEngine() {
  // The data thread, which is joined next, may be stuck in a call of the device's.
  std::lock_guard lock(mutex_);
  if (watched_ != nullptr && watched_->collective != nullptr) {
    watched_->collective->BeginAbort("the member stops");
  }
}

Transport* FlowEngine::FindTransport(const std::string& kind) const {
  for (Transport* transport : transports_) {
    if (transport->kind() == kind) return transport;
  }
  return nullptr;
}

void FlowEngine::PostOffer() {
  OfferChanged changed;
  bool has_device = false;
  for (const Transport* transport : transports_) {
    if (!transport->is_usable()) continue;
    changed.transports.push_back(transport->offer());
    if (transport->device() == nullptr) continue;
    has_device = true;
    changed.memory_free = transport->device()->engine->allocator()->FreeBytes();
  }
  changed.memory_held = held_bytes_;
  if (has_device) post_(std::move(changed));
}

std::optional<uint32_t> FlowEngine::MyRank(const Flow& flow) const {
  for (uint32_t k = 0; k < flow.members.size(); ++k) {
    if (flow.members[k].member == self_) return k;
  }
  return std::nullopt;
}

std::string FlowEngine::Generation::NameOf(std::optional<uint32_t> rank) const {
  return rank && *rank < names.size() ? names[*rank] : "";
}

Status FlowEngine::MakePlanAndBuffers(const PrepareAttempt& attempt) {
  const Contract& contract = *attempt.contract;
  const Digest contract_digest = ContractDigest(contract);
  const bool same = prepared_.manifest != nullptr &&
                    prepared_.manifest->digest() == attempt.manifest->digest() &&
                    prepared_.contract_digest == contract_digest;
  prepared_.key = attempt.key;
  if (same) return OkStatus();
  const PlanOptions options = PlanOptionsOf(contract, *attempt.manifest);
  PC_ASSIGN_OR_RETURN(Plan plan, MakePlan(*attempt.manifest, options));
  const Status allocated = MakeBuffers(contract, options);
  PostOffer();
  PC_RETURN_IF_ERROR(allocated);
  prepared_.tables.clear();
  prepared_.manifest = attempt.manifest;
  prepared_.contract = attempt.contract;
  prepared_.contract_digest = contract_digest;
  prepared_.plan = std::move(plan);
  prepared_.options = options;
  return OkStatus();
}

// This rank's ring, unless the one at hand fits or it needs none.
Status FlowEngine::MakeBuffers(const Contract& contract, const PlanOptions& options) {
  const Flow& flow = contract.flows.front();
  const std::optional<uint32_t> rank = MyRank(flow);
  Transport* const transport = FindTransport(flow.transport);
  if (!rank || transport == nullptr) return OkStatus();  // Join says so
  const bool is_root = *rank == flow.root;
  Allocator* allocator = is_root ? transport->allocator() : HostAllocator();
  if (transport->device() != nullptr) allocator = transport->device()->engine->allocator();
  const bool needed = is_root || transport->members_need_buffers();
  const bool fits = prepared_.ring != nullptr && prepared_.allocator == allocator &&
                    prepared_.ring->bytes() == options.buffer_bytes &&
                    prepared_.ring->count() == contract.buffer_count;
  if (needed && fits) return OkStatus();
  prepared_.ring.reset();  // before the new one: never both
  held_bytes_ = 0;
  prepared_.allocator = allocator;
  if (!needed) return OkStatus();
  PC_ASSIGN_OR_RETURN(prepared_.ring,
                      BufferRing::Make(options.buffer_bytes, contract.buffer_count, allocator));
  held_bytes_ = prepared_.ring->allocated_bytes();
  return OkStatus();
}

PrepareDone FlowEngine::Prepare(const PrepareAttempt& attempt) {
  PrepareDone done;
  done.key = attempt.key;
  done.status = MakePlanAndBuffers(attempt);
  if (!done.status.ok()) {
    prepared_ = {};
    held_bytes_ = 0;
    PostOffer();
    return done;
  }
  done.plan_digest = prepared_.plan.digest;
  if (!attempt.make_rendezvous) return done;
  const std::string& kind = attempt.contract->flows.front().transport;
  Transport* transport = FindTransport(kind);
  if (transport == nullptr) {
    done.status = Unimplemented("no transport \"" + kind + "\" here");
    return done;
  }
  StatusOr<Rendezvous> rendezvous = transport->MakeRendezvous(attempt.generation);
  if (!rendezvous.ok()) {
    done.status = rendezvous.status();
    return done;
  }
  done.rendezvous_kind = rendezvous->kind;
  done.rendezvous_blob = rendezvous->blob;
  return done;
}

void FlowEngine::Submit(DataThread::Job job, std::function<void(const Status&)> rejected) {
  auto token = data_thread_.Submit(std::move(job));
  if (token.ok()) {
    running_ = *token;
  } else {
    rejected(token.status());
  }
}

void FlowEngine::Join(const JoinGeneration& join) {
  const auto fail = [this, key = join.key](const Status& status) {
    post_(GenerationReady{key, status});
  };
  const Flow& flow = join.contract->flows.front();
  const std::optional<uint32_t> rank = MyRank(flow);
  Transport* transport = FindTransport(flow.transport);
  if (!rank || transport == nullptr) {
    fail(Internal("asked to join a flow that this rank is not in"));
    return;
  }
  JoinOptions options;
  options.rendezvous = {join.kind, join.blob};
  options.rank = *rank;
  options.size = static_cast<uint32_t>(flow.members.size());
  options.root = flow.root;
  options.generation = join.generation;
  options.cta_count_max = join.contract->cta_count_max;
  for (const FlowMember& member : flow.members) options.names.push_back(member.member.name);
  auto generation = std::make_shared<Generation>();
  generation->id = join.generation;
  generation->names = options.names;
  generation_ = generation;
  Submit(
      [this, generation, transport, options, key = join.key](const DataThread::Context& context) {
        Status status = context.cancel->status();
        if (status.ok()) {
          auto collective = transport->Join(options);
          status = collective.status();
          if (collective.ok()) {
            std::lock_guard lock(mutex_);
            generation->collective = std::move(collective).value();
            watched_ = generation;
          }
        } else {
          transport->Forget(options.generation);
        }
        bool joined = false;
        while (status.ok() && !joined) {
          context.Beat();
          ScopedWake wake(context.cancel, [c = generation->collective.get()] { c->Wake(); });
          const StatusOr<bool> now = generation->collective->Joined();
          status = now.status();
          if (status.ok()) joined = *now;
          if (status.ok() && !joined) status = generation->collective->Poll(kJoinPoll);
          if (status.ok()) status = context.cancel->status();
        }
        PostOffer();  // first: whoever failed here is asked anew
        post_(GenerationReady{key, status});
      },
      fail);
}

void FlowEngine::Close(GenerationId generation) {
  if (generation_ == nullptr || generation_->id != generation) return;
  const auto closed = std::exchange(generation_, nullptr);
  Submit(
      [this, closed](const DataThread::Context&) {
        {
          std::lock_guard lock(mutex_);
          if (watched_ == closed) watched_.reset();
        }
        if (closed->collective == nullptr) return;
        // A generation at rest: nothing is in flight that an error here could leave behind.
        (void)closed->collective->Abort("the generation is closed");
        closed->collective.reset();
      },
      [](const Status&) {});
}

const DevicePath* FlowEngine::Device() const {
  const Transport* transport = FindTransport(prepared_.contract->flows.front().transport);
  return transport == nullptr ? nullptr : transport->device();
}

// Data thread, which runs nothing else that uses the tables; Prepare never runs beside a stream.
StatusOr<std::shared_ptr<const UnpackTable>> FlowEngine::TableFor(const TargetMap& targets,
                                                                  const BroadcastOptions& options) {
  if (const auto found = prepared_.tables.find(targets.serial()); found != prepared_.tables.end()) {
    return found->second;
  }
  PC_ASSIGN_OR_RETURN(UnpackTable made, UnpackTable::Make(*options.manifest, *options.expected,
                                                          targets, options.hash));
  // A sink that binds anew under the same contract leaves tables behind that nobody asks for again.
  constexpr size_t kBanksMax = 4;
  if (prepared_.tables.size() >= kBanksMax) prepared_.tables.clear();
  const auto table = std::make_shared<const UnpackTable>(std::move(made));
  prepared_.tables[targets.serial()] = table;
  return table;
}

BroadcastOptions FlowEngine::Options() const {
  BroadcastOptions options;
  options.plan = prepared_.options;
  options.buffer_count = prepared_.contract->buffer_count;
  options.hash = prepared_.contract->integrity == Integrity::kContentHash;
  options.manifest = prepared_.manifest.get();
  options.expected = &prepared_.plan;
  options.ring = prepared_.ring.get();
  return options;
}

template <class Run>
void FlowEngine::Stream(const EpochKey& key, Duration limit, Run run) {
  const auto fail = [this, key](const Status& status, const std::string& culprit = "") {
    StreamDone done;
    done.key = key;
    done.status = status;
    done.culprit = culprit;
    post_(std::move(done));
  };
  if (generation_ == nullptr || prepared_.key != key) {
    fail(Internal("asked to stream without a generation or plan"));
    return;
  }
  const StreamId stream{key.version(), key.attempt, FlowId(0), generation_->id,
                        prepared_.plan.digest};
  const Time deadline = Now() + limit;
  Submit(
      [this, fail, key, stream, deadline, generation = generation_, options = Options(),
       run = std::move(run)](const DataThread::Context& context) {
        Status status = context.cancel->status();
        if (status.ok()) status = generation->collective->Begin(stream);
        if (!status.ok()) return fail(status);
        if (options.ring != nullptr) options.ring->Reset();
        const StatusOr<BroadcastResult> result =
            run(generation->collective.get(), options, deadline, context);
        if (!result.ok()) {
          // The root sees every member; a member sees only the root, which may have gone because
          // of another, and so accuses nobody.
          const Collective& collective = *generation->collective;
          return fail(result.status(),
                      collective.is_root() ? generation->NameOf(collective.culprit()) : "");
        }
        StreamDone done;
        done.key = key;
        done.content_digest = result->content_digest;
        done.bytes = result->bytes;
        done.phases = PhasesOf(result->seconds, generation->collective->is_root());
        post_(std::move(done));
      },
      fail);
}

void FlowEngine::StreamOut(const EpochKey& key, std::shared_ptr<SourcePump> source) {
  const DevicePath* const device = Device();
  Stream(key, prepared_.contract->transfer_deadline,
         [source, device](Collective* collective, const BroadcastOptions& options, Time deadline,
                          const DataThread::Context& context) -> StatusOr<BroadcastResult> {
           if (device != nullptr) {
             PC_ASSIGN_OR_RETURN(
                 const auto producer,
                 DeviceProducer::Make(collective, source->batches(), device->engine, options));
             return producer->Run(deadline, context.cancel, context.beats);
           }
           PC_ASSIGN_OR_RETURN(const auto producer,
                               PackedProducer::Make(collective, source.get(), options));
           return producer->Run(deadline, context.cancel, context.beats);
         });
}

void FlowEngine::StreamIn(const EpochKey& key, bool early, std::shared_ptr<const TargetMap> targets,
                          UnpackCallback callback) {
  const DevicePath* const device = Device();
  const Contract& contract = *prepared_.contract;
  Stream(key, contract.transfer_deadline + (early ? contract.prepare_deadline : Duration::zero()),
         [this, targets, callback = std::move(callback), device](
             Collective* collective, const BroadcastOptions& options, Time deadline,
             const DataThread::Context& context) -> StatusOr<BroadcastResult> {
           if (device != nullptr) {
             PC_ASSIGN_OR_RETURN(const std::shared_ptr<const UnpackTable> table,
                                 TableFor(*targets, options));
             PC_ASSIGN_OR_RETURN(
                 const auto consumer,
                 DeviceConsumer::Make(collective, device->engine, options, table.get(), callback));
             return consumer->Run(deadline, context.cancel, context.beats);
           }
           const std::unique_ptr<RowSource> rows = RowsOf(options.manifest->rows());
           PC_ASSIGN_OR_RETURN(
               const auto consumer,
               PackedConsumer::Make(collective, rows.get(), options, callback, targets.get()));
           return consumer->Run(deadline, context.cancel, context.beats);
         });
}

void FlowEngine::Abort(const std::string& reason, std::function<void(AbortOutcome)> done) {
  if (running_ != nullptr) running_->Cancel(Aborted(reason));
  const auto retired = std::exchange(generation_, nullptr);
  {
    // The data thread may be stuck in a call of the device's that only this ends.
    std::lock_guard lock(mutex_);
    if (retired != nullptr && retired->collective != nullptr) {
      retired->collective->BeginAbort(reason);
    }
  }
  Submit(
      [this, retired, reason, done](const DataThread::Context&) {
        Status status;
        {
          std::lock_guard lock(mutex_);
          if (watched_ == retired) watched_.reset();
        }
        if (retired != nullptr && retired->collective != nullptr) {
          status = retired->collective->Abort(reason);
        }
        // Its stream waited for that already; where it could not, this says so.
        for (Transport* transport : transports_) {
          if (transport->device() == nullptr || !status.ok()) continue;
          status = transport->device()->engine->Drain(kDrainTimeout);
        }
        // Last: kernels may read what it has mapped.
        if (status.ok() && retired != nullptr) retired->collective.reset();
        PostOffer();
        done(status.ok() ? AbortOutcome::kClean : AbortOutcome::kWedged);
      },
      [done](const Status&) { done(AbortOutcome::kWedged); });
}

FlowEngine::Counters FlowEngine::counters() const {
  std::lock_guard lock(mutex_);
  if (watched_ == nullptr || watched_->collective == nullptr) return {};
  const CollectiveProgress& progress = watched_->collective->progress();
  return {progress.launched.load(), progress.completed.load(), progress.bytes.load()};
}

}  // namespace packcast
