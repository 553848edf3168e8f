#include "actors/flow_lane.h"

#include <algorithm>
#include <utility>

#include "runtime/base/clock.h"
#include "runtime/data/device_consumer.h"
#include "runtime/data/device_producer.h"
#include "runtime/data/packed_producer.h"

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

FlowLane::FlowLane(std::shared_ptr<Shared> shared, bool main)
    : shared_(std::move(shared)), main_(main), data_thread_("data") {}

FlowLane::~FlowLane() {
  // The data thread, which is joined next, may be stuck in a call of the device's.
  BreakOff(Cancelled("the member stops"));
  shared_->held_bytes -= held_bytes_;
}

std::string FlowLane::Generation::Accused() const {
  if (collective == nullptr) return "";
  const std::optional<uint32_t> rank = collective->culprit();
  return !rank || *rank == collective->root() || *rank >= names.size() ? "" : names[*rank];
}

StatusOr<Transport*> FlowLane::FindTransport() const {
  for (Transport* transport : shared_->transports) {
    if (transport->kind() == flow().transport) return transport;
  }
  return Unimplemented("no transport \"" + flow().transport + "\" here");
}

// ---- before a stream ----------------------------------------------------------------------------

Status FlowLane::Prepare(const Assignment& assignment) {
  const bool same_plan =
      now_ && now_->plan->digest == assignment.plan->digest && now_->flow == assignment.flow;
  now_ = assignment;
  if (!same_plan) tables_.clear();
  const Status status = MakeBuffers();
  if (!status.ok()) Release();
  return status;
}

// This rank's ring, unless the one at hand fits or it needs none.
Status FlowLane::MakeBuffers() {
  PC_ASSIGN_OR_RETURN(Transport* const transport, FindTransport());
  const bool is_root = now_->rank == flow().root;
  Allocator* allocator = is_root ? transport->allocator() : HostAllocator();
  if (transport->device() != nullptr) allocator = transport->device()->engine->allocator();
  PC_RETURN_IF_ERROR(Engine().status());
  const bool needed = is_root || transport->members_need_buffers();
  const uint32_t count = now_->contract->buffer_count;
  const bool fits = ring_ != nullptr && allocator_ == allocator &&
                    ring_->bytes() == now_->options.buffer_bytes && ring_->count() == count;
  if (needed && fits) return OkStatus();
  DropBuffers();  // before the new ones: never both
  if (!needed) return OkStatus();
  allocator_ = allocator;
  PC_ASSIGN_OR_RETURN(ring_, BufferRing::Make(now_->options.buffer_bytes, count, allocator));
  held_bytes_ = ring_->allocated_bytes();
  shared_->held_bytes += held_bytes_;
  return OkStatus();
}

void FlowLane::DropBuffers() {
  ring_.reset();
  shared_->held_bytes -= std::exchange(held_bytes_, 0);
}

void FlowLane::ForgetRendezvous() {
  std::lock_guard lock(mutex_);
  if (unused_.transport != nullptr) unused_.transport->Forget(unused_.generation);
  unused_ = {};
}

void FlowLane::Release() {
  ForgetRendezvous();
  DropBuffers();
  tables_.clear();
  now_.reset();
}

// One engine is of one thread at a time, and lanes have threads of their own.
StatusOr<CopyEngine*> FlowLane::Engine() {
  PC_ASSIGN_OR_RETURN(Transport* const transport, FindTransport());
  if (transport->device() == nullptr) return static_cast<CopyEngine*>(nullptr);
  CopyEngine* const engine = transport->device()->engine;
  if (main_) return engine;
  std::lock_guard lock(mutex_);
  if (own_engine_ == nullptr) {
    PC_ASSIGN_OR_RETURN(own_engine_, engine->Another());
  }
  return own_engine_.get();
}

StatusOr<FlowRendezvous> FlowLane::MakeRendezvous() {
  PC_ASSIGN_OR_RETURN(Transport* const transport, FindTransport());
  ForgetRendezvous();  // of an attempt that was given up meanwhile
  PC_ASSIGN_OR_RETURN(const Rendezvous made, transport->MakeRendezvous(now_->generation));
  std::lock_guard lock(mutex_);
  unused_ = {transport, now_->generation};
  return FlowRendezvous{now_->flow, made.kind, made.blob, now_->rank};
}

void FlowLane::Submit(DataThread::Job job, std::function<void(const Status&)> rejected) {
  auto token = data_thread_.Submit(std::move(job));
  if (!token.ok()) {
    rejected(token.status());
    return;
  }
  std::lock_guard lock(mutex_);
  running_ = *token;
}

void FlowLane::Join(FlowRendezvous rendezvous, Joined done) {
  const StatusOr<Transport*> transport = now_ ? FindTransport() : Internal("no flow is prepared");
  if (!transport.ok()) {
    done(transport.status(), "");
    return;
  }
  JoinOptions options;
  options.rendezvous = {std::move(rendezvous.kind), std::move(rendezvous.blob)};
  options.rank = now_->rank;
  options.size = static_cast<uint32_t>(flow().members.size());
  options.root = flow().root;
  options.generation = now_->generation;
  options.cta_count_max = flow().cta_count_max;
  options.relays = flow().relays;
  for (const FlowMember& member : flow().members) options.names.push_back(member.member.name);
  const Duration patience = now_->contract->rendezvous_deadline;
  if (patience > Duration::zero() && flow().Feeds(now_->rank)) options.deadline = Now() + patience;
  {
    std::lock_guard lock(mutex_);
    unused_ = {};  // the job's now
  }
  auto generation = std::make_shared<Generation>();
  generation->id = options.generation;
  generation->names = options.names;
  generation_ = generation;
  Submit(
      [this, generation, options, done, to = *transport](const DataThread::Context& context) {
        const Status status = JoinHere(context, to, options, generation);
        done(status, status.ok() ? "" : generation->Accused());
      },
      [done](const Status& status) { done(status, ""); });
}

Status FlowLane::JoinHere(const DataThread::Context& context, Transport* transport,
                          const JoinOptions& options,
                          const std::shared_ptr<Generation>& generation) {
  if (context.cancel->cancelled()) {
    transport->Forget(options.generation);
    return context.cancel->status();
  }
  StatusOr<std::unique_ptr<Collective>> joining = transport->Join(options);
  if (!joining.ok()) {
    transport->Forget(options.generation);
    return joining.status();
  }
  Collective* const collective = joining->get();
  {
    std::lock_guard lock(mutex_);
    generation->collective = std::move(joining).value();
    watched_ = generation;
  }
  while (true) {
    context.Beat();
    ScopedWake wake(context.cancel, [collective] { collective->Wake(); });
    PC_ASSIGN_OR_RETURN(const bool joined, collective->Joined());
    if (joined) return OkStatus();
    PC_RETURN_IF_ERROR(collective->Poll(kJoinPoll));
    PC_RETURN_IF_ERROR(context.cancel->status());
  }
}

void FlowLane::Close() {
  if (generation_ == nullptr) return;
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

// ---- streams ------------------------------------------------------------------------------------

// Data thread, which runs nothing else that uses the tables; Prepare never runs beside a stream.
StatusOr<const UnpackTable*> FlowLane::TableFor(const TargetMap& targets,
                                                const BroadcastOptions& options) {
  if (const auto found = tables_.find(targets.serial()); found != tables_.end()) {
    return found->second.get();
  }
  PC_ASSIGN_OR_RETURN(UnpackTable made, UnpackTable::Make(*options.manifest, *options.expected,
                                                          targets, options.hash));
  // A sink that binds anew under the same contract leaves tables behind that nobody asks for again.
  constexpr size_t kBanksMax = 4;
  if (tables_.size() >= kBanksMax) tables_.clear();
  const auto table = std::make_shared<const UnpackTable>(std::move(made));
  tables_[targets.serial()] = table;
  return table.get();
}

BroadcastOptions FlowLane::Options() const {
  BroadcastOptions options;
  options.plan = now_->options;
  options.buffer_count = now_->contract->buffer_count;
  options.hash = now_->contract->integrity == Integrity::kContentHash;
  options.manifest = now_->manifest.get();
  options.expected = now_->plan.get();
  options.ring = ring_.get();
  // In a chain whoever is further down knows better which rank is stuck, and says so earlier.
  const auto size = static_cast<int64_t>(flow().members.size());
  const int64_t below = size - now_->rank;
  options.put_off_until = &shared_->put_off_until;
  options.stall = now_->contract->stall_deadline;
  if (flow().relays) options.stall = options.stall / 2 + options.stall / 2 * below / size;
  return options;
}

template <class Run>
void FlowLane::Stream(bool early, Done done, Run run) {
  const auto fail = [done](const Status& status, const std::string& culprit = "") {
    done(FlowStreamed{status, {}, 0, {}, culprit});
  };
  if (generation_ == nullptr || !now_ || generation_->id != now_->generation) {
    fail(Internal("asked to stream without a generation or plan"));
    return;
  }
  const StreamId stream{now_->key.version(), now_->key.attempt, now_->flow, generation_->id,
                        now_->plan->digest};
  const Contract& contract = *now_->contract;
  // Others may not have begun by then.
  const Time all_begin = Now() + (early ? contract.prepare_deadline : Duration::zero());
  const Time deadline = all_begin + contract.transfer_deadline;
  BroadcastOptions options = Options();
  options.stall_from = all_begin;
  Submit(
      [fail, done, stream, deadline, generation = generation_, options,
       run = std::move(run)](const DataThread::Context& context) {
        Status status = context.cancel->status();
        if (status.ok()) status = generation->collective->Begin(stream);
        if (!status.ok()) return fail(status);
        if (options.ring != nullptr) options.ring->Reset();
        const StatusOr<BroadcastResult> result =
            run(generation->collective.get(), options, deadline, context);
        const Collective& collective = *generation->collective;
        if (!result.ok()) {
          return fail(result.status(), generation->Accused());
        }
        done(FlowStreamed{OkStatus(), result->content_digest, result->bytes,
                          PhasesOf(result->seconds, collective.is_root()), ""});
      },
      fail);
}

void FlowLane::StreamOut(bool early, TensorSource* tensors, BatchSource* batches,
                         std::shared_ptr<void> owner, Done done) {
  const StatusOr<CopyEngine*> engine = now_ ? Engine() : Internal("no flow is prepared");
  if (!engine.ok()) return done(FlowStreamed{engine.status(), {}, 0, {}, ""});
  Stream(early, std::move(done),
         [tensors, batches, owner, copies = *engine](
             Collective* collective, const BroadcastOptions& options, Time deadline,
             const DataThread::Context& context) -> StatusOr<BroadcastResult> {
           if (copies != nullptr) {
             PC_ASSIGN_OR_RETURN(const auto producer,
                                 DeviceProducer::Make(collective, batches, copies, options));
             return producer->Run(deadline, context.cancel, context.beats);
           }
           PC_ASSIGN_OR_RETURN(const auto producer,
                               PackedProducer::Make(collective, tensors, options));
           return producer->Run(deadline, context.cancel, context.beats);
         });
}

void FlowLane::StreamIn(bool early, std::shared_ptr<const TargetMap> targets,
                        UnpackCallback callback, Done done) {
  const StatusOr<CopyEngine*> engine = now_ ? Engine() : Internal("no flow is prepared");
  if (!engine.ok()) return done(FlowStreamed{engine.status(), {}, 0, {}, ""});
  Stream(early, std::move(done),
         [this, targets, callback = std::move(callback), copies = *engine](
             Collective* collective, const BroadcastOptions& options, Time deadline,
             const DataThread::Context& context) -> StatusOr<BroadcastResult> {
           if (copies != nullptr) {
             PC_ASSIGN_OR_RETURN(const UnpackTable* const table, TableFor(*targets, options));
             PC_ASSIGN_OR_RETURN(
                 const auto consumer,
                 DeviceConsumer::Make(collective, copies, options, table, callback));
             return consumer->Run(deadline, context.cancel, context.beats);
           }
           const std::unique_ptr<RowSource> rows = RowsOf(options.manifest->rows());
           PC_ASSIGN_OR_RETURN(
               const auto consumer,
               PackedConsumer::Make(collective, rows.get(), options, callback, targets.get()));
           return consumer->Run(deadline, context.cancel, context.beats);
         });
}

// ---- giving up ----------------------------------------------------------------------------------

void FlowLane::BreakOff(const Status& why) {
  std::lock_guard lock(mutex_);
  if (running_ != nullptr) running_->Cancel(why);
  // The data thread may be stuck in a call of the device's that only this ends.
  if (watched_ != nullptr && watched_->collective != nullptr) {
    watched_->collective->BeginAbort(std::string(why.message()));
  }
}

void FlowLane::Abort(const std::string& reason, std::function<void(AbortOutcome)> done) {
  {
    std::lock_guard lock(mutex_);
    if (running_ != nullptr) running_->Cancel(Aborted(reason));
    if (generation_ != nullptr && generation_->collective != nullptr) {
      generation_->collective->BeginAbort(reason);
    }
  }
  ForgetRendezvous();
  const auto retired = std::exchange(generation_, nullptr);
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
        if (status.ok()) status = Drain();
        // Last: kernels may read what it has mapped.
        if (status.ok() && retired != nullptr) retired->collective.reset();
        shared_->offer_changed();
        done(status.ok() ? AbortOutcome::kClean : AbortOutcome::kWedged);
      },
      [done](const Status&) { done(AbortOutcome::kWedged); });
}

// Data thread: no engine that this lane uses has work.
Status FlowLane::Drain() {
  CopyEngine* own = nullptr;
  {
    std::lock_guard lock(mutex_);
    own = own_engine_.get();
  }
  if (own != nullptr) PC_RETURN_IF_ERROR(own->Drain(kDrainTimeout));
  for (Transport* transport : shared_->transports) {
    if (!main_ || transport->device() == nullptr) continue;
    PC_RETURN_IF_ERROR(transport->device()->engine->Drain(kDrainTimeout));
  }
  return OkStatus();
}

FlowLane::Counters FlowLane::counters() const {
  std::lock_guard lock(mutex_);
  if (watched_ == nullptr || watched_->collective == nullptr) return {};
  const CollectiveProgress& progress = watched_->collective->progress();
  return {progress.launched.load(), progress.completed.load(), progress.bytes.load()};
}

}  // namespace packcast
