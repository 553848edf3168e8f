#include "runtime/data/packed_consumer.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>

#include "runtime/base/failpoint.h"
#include "runtime/data/broadcast_end.h"
#include "runtime/data/broadcast_setup.h"
#include "runtime/data/phase_timer.h"
#include "runtime/data/region_io.h"

namespace packcast {
namespace {

// A row that the consumer has pulled; lives until the end of the run.
struct RowEntry {
  Row row;
  uint64_t bytes = 0;
  const RowTarget* target = nullptr;
  bool direct_checked = false;
};

// A region of a step; one without bytes stands for an empty row that the callback shall see.
struct InRegion {
  Region region;
  const RowEntry* row = nullptr;
};

// A step from its first region until everything of it is delivered.
struct InStep {
  bool direct = false;
  std::optional<uint32_t> slot;  // packed: the buffer, but for collectives that read in place
  const std::byte* bytes_at = nullptr;  // packed, once arrived
  uint64_t bytes = 0;
  uint64_t first_region = 0;
  uint32_t region_count = 0;  // without the empty ones
  std::vector<InRegion> regions;
  ContentHash hash;
  size_t at_region = 0;  // how far unpacking has come
  uint64_t at_offset = 0;
};

}  // namespace

class PackedConsumer::Impl final : public internal::BroadcastEnd {
 public:
  Impl(Collective* collective, RowSource* rows, const BroadcastOptions& options,
       UnpackCallback callback, const TargetMap* targets, Planner planner, RingHandle ring)
      : BroadcastEnd(collective, options, std::move(ring)),
        rows_(rows),
        callback_(std::move(callback)),
        targets_(targets != nullptr ? targets : &no_targets_),
        planner_(std::move(planner)) {}

  ~Impl() override { AbortUnlessFinished(Cancelled("the consumer was destroyed")); }

 private:
  StatusOr<bool> Turn() override;
  void Drop(bool) override { steps_.clear(); }
  double* wait_seconds() override { return &result_.seconds.receive; }

  Status PlanAndGrant();
  Status PlanAhead();
  Status HandleEvent(const Planner::Event& event);
  Status AddRegion(const Planner::Event& event);
  Status CloseStep(const Planner::Event& event);
  Status NextRow();
  Status GrantNext();
  StatusOr<bool> TakeBuffer(InStep* step);
  Status GiveBufferBack(const InStep& step);
  Status LaunchReady();
  StatusOr<bool> Arrived(InStep* step);
  void AddDirectSpans(const InStep& step, Operation* operation) const;
  Status Unpack();
  void UnpackSlice(InStep* step);
  const std::byte* PrivateCopy(const std::byte* from, uint64_t bytes);
  StatusOr<bool> Verify(const InStep& step);
  Status Deliver(const std::vector<InRegion>& regions, const InStep* step);
  Status CheckEnd();
  StatusOr<bool> TryFinish();

  RowSource* const rows_;
  const UnpackCallback callback_;
  const TargetMap no_targets_;
  const TargetMap* const targets_;
  Planner planner_;
  bool planned_all_ = false;
  bool said_finished_ = false;

  std::deque<RowEntry> entries_;
  InStep packed_;  // open steps
  InStep direct_;
  std::deque<InStep> steps_;  // closed and not delivered: sequences base_, base_ + 1, ...
  uint64_t base_ = 0;
  uint64_t granted_ = 0;
  uint64_t launched_ = 0;
  uint64_t regions_ = 0;
  uint32_t direct_granted_ = 0;  // direct steps granted and not delivered
  std::vector<std::byte> private_copy_;
};

StatusOr<bool> PackedConsumer::Impl::Turn() {
  PC_RETURN_IF_ERROR(Unpack());
  PC_RETURN_IF_ERROR(PlanAndGrant());
  PC_RETURN_IF_ERROR(LaunchReady());
  return TryFinish();
}

Status PackedConsumer::Impl::PlanAndGrant() {
  while (true) {
    const uint64_t before = granted_;
    PC_RETURN_IF_ERROR(PlanAhead());
    PC_RETURN_IF_ERROR(GrantNext());
    if (granted_ == before || budget_ == 0) return OkStatus();
  }
}

// Lays rows out until one closed step waits for its grant.
Status PackedConsumer::Impl::PlanAhead() {
  while (!planned_all_ && granted_ == base_ + steps_.size() && budget_ > 0) {
    PC_ASSIGN_OR_RETURN(const Planner::Event event, planner_.Next());
    PC_RETURN_IF_ERROR(HandleEvent(event));
    budget_ -= std::min(budget_, internal::kEventBytes);
    progress_ = true;
  }
  return OkStatus();
}

Status PackedConsumer::Impl::HandleEvent(const Planner::Event& event) {
  switch (event.kind) {
    case Planner::Event::Kind::kRegion: return AddRegion(event);
    case Planner::Event::Kind::kStep: return CloseStep(event);
    case Planner::Event::Kind::kNeedRow: return NextRow();
    case Planner::Event::Kind::kEnd: planned_all_ = true; return OkStatus();
  }
  return Internal("unknown planner event");
}

Status PackedConsumer::Impl::NextRow() {
  std::optional<Row> row;
  {
    PhaseTimer timer(&result_.seconds.source);
    PC_ASSIGN_OR_RETURN(row, rows_->Next());
  }
  const uint32_t number = planner_.rows();
  if (!row) {
    PC_RETURN_IF_ERROR(CheckRowsEnd(options_, number));
    planner_.Finish();
    return OkStatus();
  }
  if (!Contains(options_.plan.rows, number)) {  // not of this broadcast
    planner_.AddRow(0);
    return OkStatus();
  }
  PC_ASSIGN_OR_RETURN(const uint64_t bytes, RowBytes(*row));
  PC_RETURN_IF_ERROR(CheckRow(options_, number, *row, bytes));
  const RowTarget& target = targets_->Find(number, row->name);
  PC_RETURN_IF_ERROR(CheckTarget(*row, bytes, target, /*whole=*/false));
  if (target.kind == RowTarget::Kind::kCallback && !callback_) {
    return InvalidArgument("tensor \"" + row->name + "\" has no target, and there is no callback");
  }
  entries_.push_back({std::move(*row), bytes, &target});
  planner_.AddRow(bytes);
  ++result_.rows;
  if (bytes == 0) packed_.regions.push_back({Region{.row = number}, &entries_.back()});
  return OkStatus();
}

Status PackedConsumer::Impl::AddRegion(const Planner::Event& event) {
  RowEntry& row = entries_.back();
  if (event.direct && !row.direct_checked) {
    PC_RETURN_IF_ERROR(CheckTarget(row.row, row.bytes, *row.target, /*whole=*/true));
    row.direct_checked = true;
  }
  (event.direct ? direct_ : packed_).regions.push_back({event.region, &row});
  result_.bytes += event.region.bytes;
  return OkStatus();
}

Status PackedConsumer::Impl::CloseStep(const Planner::Event& event) {
  InStep& open = event.direct ? direct_ : packed_;
  open.direct = event.direct;
  open.bytes = event.step_bytes;
  open.first_region = regions_;
  open.region_count = event.regions;
  regions_ += event.regions;
  if (options_.expected != nullptr) {
    std::vector<Region> regions;
    for (const InRegion& region : open.regions) {
      if (region.region.bytes > 0) regions.push_back(region.region);
    }
    PC_RETURN_IF_ERROR(CheckPlannedStep(*options_.expected, base_ + steps_.size(), event.direct,
                                        event.step_bytes, open.first_region, regions));
  }
  result_.wire_bytes += open.bytes;
  ++result_.steps;
  steps_.push_back(std::move(open));
  open = InStep();
  return OkStatus();
}

Status PackedConsumer::Impl::GrantNext() {
  if (granted_ - base_ >= kStepsInFlightMax) return OkStatus();
  if (granted_ == base_ + steps_.size()) {
    // One promise beyond the end: a root that has more steps than we know of uses it, and is found
    // out by its gate; else both would wait. With an agreed plan there is nothing to find out.
    if (!planned_all_ || options_.expected != nullptr) return OkStatus();
    return collective_->Grant(Sequence(granted_++));
  }
  if (granted_ > base_ + steps_.size()) return OkStatus();
  InStep& step = steps_[granted_ - base_];
  if (step.direct) {
    if (direct_granted_ >= options_.direct_steps_in_flight) return OkStatus();
    ++direct_granted_;
  } else {
    PC_ASSIGN_OR_RETURN(const bool taken, TakeBuffer(&step));
    if (!taken) return OkStatus();
  }
  PC_RETURN_IF_ERROR(collective_->Grant(Sequence(granted_++)));
  progress_ = true;
  return OkStatus();
}

// False while there is none. Without a ring the root's buffers are the bound.
StatusOr<bool> PackedConsumer::Impl::TakeBuffer(InStep* step) {
  if (!ring_.has_ring()) return true;
  step->slot = ring_->Acquire();
  if (!step->slot) return false;
  PC_RETURN_IF_ERROR(ring_->Grow(*step->slot, step->bytes, 0));
  return true;
}

Status PackedConsumer::Impl::GiveBufferBack(const InStep& step) {
  if (!ring_.has_ring()) return collective_->Release(Sequence(base_));
  if (step.slot) ring_->Release(*step.slot);
  return OkStatus();
}

Status PackedConsumer::Impl::LaunchReady() {
  while (launched_ < granted_) {
    PC_ASSIGN_OR_RETURN(const bool ready, collective_->Ready(Sequence(launched_)));
    if (!ready) break;
    Operation operation{
        .sequence = Sequence(launched_), .first_region = regions_, .sealed = options_.hash};
    if (launched_ < base_ + steps_.size()) {
      const InStep& step = steps_[launched_ - base_];
      operation.first_region = step.first_region;
      operation.regions = step.region_count;
      if (step.direct) {
        AddDirectSpans(step, &operation);
      } else if (ring_.has_ring()) {
        ring_->Launch(*step.slot);
        operation.spans.push_back({ring_->data(*step.slot), step.bytes});
      } else {
        operation.spans.push_back({nullptr, step.bytes});
      }
    }
    // Beyond our last step the operation is empty, and refused with both sides' values.
    PC_RETURN_IF_ERROR(collective_->Launch(std::move(operation)));
    ++launched_;
    progress_ = true;
  }
  return OkStatus();
}

void PackedConsumer::Impl::AddDirectSpans(const InStep& step, Operation* operation) const {
  for (const InRegion& in : step.regions) {
    ForEachPiece(*in.row->target, in.region.offset, in.region.bytes,
                 [&](uint64_t, std::byte* data, uint64_t bytes) {
                   operation->spans.push_back({data, bytes});
                 });
  }
}

StatusOr<bool> PackedConsumer::Impl::Arrived(InStep* step) {
  if (step->bytes_at != nullptr) return true;
  PC_ASSIGN_OR_RETURN(const bool done, collective_->Done(Sequence(base_)));
  if (!done || step->direct) return done;
  if (ring_.has_ring()) {
    step->bytes_at = ring_->data(*step->slot);
  } else {
    PC_ASSIGN_OR_RETURN(const auto landed, collective_->Landed(Sequence(base_)));
    step->bytes_at = landed.data();
  }
  return true;
}

// Delivers the oldest step, as far as the budget reaches.
Status PackedConsumer::Impl::Unpack() {
  while (!steps_.empty() && base_ < launched_ && budget_ > 0) {
    InStep& step = steps_.front();
    PC_ASSIGN_OR_RETURN(const bool arrived, Arrived(&step));
    if (!arrived) break;
    while (budget_ > 0 && step.at_region < step.regions.size()) UnpackSlice(&step);
    if (step.at_region < step.regions.size()) break;
    PC_ASSIGN_OR_RETURN(const bool verified, Verify(step));
    if (!verified) break;
    PC_RETURN_IF_ERROR(Failpoint("member.unpack"));
    PC_RETURN_IF_ERROR(Deliver(step.regions, &step));
    if (step.direct) --direct_granted_;
    PC_RETURN_IF_ERROR(GiveBufferBack(step));
    steps_.pop_front();
    ++base_;
    progress_ = true;
  }
  return OkStatus();
}

void PackedConsumer::Impl::UnpackSlice(InStep* step) {
  const InRegion& in = step->regions[step->at_region];
  const uint64_t part = std::min(internal::kSliceBytes, in.region.bytes - step->at_offset);
  const uint64_t offset = in.region.offset + step->at_offset;
  const std::byte* from =
      step->direct ? nullptr : step->bytes_at + in.region.buffer_offset + step->at_offset;
  const bool in_memory = in.row->target->kind == RowTarget::Kind::kMemory;
  bool hash_target = step->direct;
  if (!ring_.has_ring() && in_memory && options_.hash) {
    // Another process may change `from` between a hash and a copy of it: what is kept is hashed.
    hash_target = Covers(*in.row->target, offset, part);
    if (!hash_target) from = PrivateCopy(from, part);
  }
  if (!step->direct && in_memory) {
    PhaseTimer timer(&result_.seconds.unpack);
    ForEachPiece(*in.row->target, offset, part, [&](uint64_t at, std::byte* data, uint64_t bytes) {
      std::memcpy(data, from + (at - offset), bytes);
    });
  }
  if (options_.hash && part > 0) {
    PhaseTimer timer(&result_.seconds.hash);
    if (hash_target) {
      HashPieces(*in.row->target, in.region.row, offset, part, &step->hash);
    } else {
      step->hash.Add(in.region.row, offset, {from, part});
    }
  }
  step->at_offset += part;
  budget_ -= std::min(budget_, part + internal::kEventBytes);
  progress_ = true;
  if (step->at_offset == in.region.bytes) {
    ++step->at_region;
    step->at_offset = 0;
  }
}

// Rows of which only parts are kept: valid until the next call.
const std::byte* PackedConsumer::Impl::PrivateCopy(const std::byte* from, uint64_t bytes) {
  PhaseTimer timer(&result_.seconds.unpack);
  private_copy_.resize(internal::kSliceBytes);
  std::memcpy(private_copy_.data(), from, bytes);
  return private_copy_.data();
}

// False while the seal is not here yet.
StatusOr<bool> PackedConsumer::Impl::Verify(const InStep& step) {
  if (!options_.hash) return true;
  PC_ASSIGN_OR_RETURN(const std::optional<StepSeal> seal, collective_->SealOf(Sequence(base_)));
  if (!seal) return false;
  if (seal->digest == step.hash.digest()) {
    result_.content_digest = Combine(result_.content_digest, seal->digest);
    return true;
  }
  const auto& first = step.regions.front().row->row.name;
  const auto& last = step.regions.back().row->row.name;
  return DataLoss(collective_->Describe(collective_->rank()) + ": step " + std::to_string(base_) +
                  " (tensors \"" + first + "\" to \"" + last + "\", " +
                  std::to_string(step.region_count) + " regions, " + std::to_string(step.bytes) +
                  " bytes) has checksum " + ToHex(step.hash.digest()) + ", " +
                  collective_->Describe(collective_->root()) + " sealed " + ToHex(seal->digest));
}

Status PackedConsumer::Impl::Deliver(const std::vector<InRegion>& regions, const InStep* step) {
  std::vector<UnpackedRegion> shown;
  for (const InRegion& in : regions) {
    if (in.row->target->kind != RowTarget::Kind::kCallback) continue;
    const std::byte* data =
        in.region.bytes > 0 ? step->bytes_at + in.region.buffer_offset : nullptr;
    shown.push_back(
        {in.region.row, &in.row->row, in.row->bytes, in.region.offset, in.region.bytes, data});
  }
  if (shown.empty()) return OkStatus();
  PhaseTimer timer(&result_.seconds.unpack);
  return callback_(shown);
}

// The root must not end before our last step.
Status PackedConsumer::Impl::CheckEnd() {
  PC_ASSIGN_OR_RETURN(const std::optional<uint64_t> end, collective_->EndOf());
  if (!end || *end >= base_ + steps_.size()) return OkStatus();
  const InStep& step = steps_[*end - base_];
  return FailedPrecondition(collective_->Describe(collective_->rank()) + " expects step " +
                            std::to_string(*end) + " from tensor \"" +
                            step.regions.front().row->row.name + "\" on, but " +
                            collective_->Describe(collective_->root()) + " ended after " +
                            std::to_string(*end) + " steps; rows and settings must be equal");
}

StatusOr<bool> PackedConsumer::Impl::TryFinish() {
  PC_RETURN_IF_ERROR(CheckEnd());
  if (!planned_all_ || !steps_.empty()) return false;
  PC_ASSIGN_OR_RETURN(const std::optional<uint64_t> end, collective_->EndOf());
  if (!end) return false;
  if (!said_finished_) {
    // Empty rows after the last step.
    PC_RETURN_IF_ERROR(Deliver(packed_.regions, nullptr));
    PC_RETURN_IF_ERROR(collective_->Finish());
    said_finished_ = true;
  }
  // Who stops polling before that may leave the root waiting for our word.
  return collective_->Flushed();
}

StatusOr<std::unique_ptr<PackedConsumer>> PackedConsumer::Make(Collective* collective,
                                                               RowSource* rows,
                                                               const BroadcastOptions& options,
                                                               UnpackCallback callback,
                                                               const TargetMap* targets) {
  if (collective->is_root()) {
    return InvalidArgument(collective->Describe(collective->rank()) +
                           " is the root and cannot consume");
  }
  PC_ASSIGN_OR_RETURN(Planner planner, Planner::Make(options.plan));
  PC_RETURN_IF_ERROR(CheckOptions(options));
  RingHandle ring;
  if (!collective->reads_in_place()) {
    PC_ASSIGN_OR_RETURN(ring, MakeRing(options));
  }
  return std::unique_ptr<PackedConsumer>(
      new PackedConsumer(std::make_unique<Impl>(collective, rows, options, std::move(callback),
                                                targets, std::move(planner), std::move(ring))));
}

PackedConsumer::PackedConsumer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PackedConsumer::~PackedConsumer() = default;
StatusOr<bool> PackedConsumer::Advance() { return impl_->Advance(); }
bool PackedConsumer::idle() const { return impl_->idle(); }
void PackedConsumer::Abort(const Status& why) { impl_->Abort(why); }
const BroadcastResult& PackedConsumer::result() const { return impl_->result(); }

StatusOr<BroadcastResult> PackedConsumer::Run(Time deadline, CancelToken* cancel,
                                              std::atomic<uint64_t>* beats) {
  return impl_->Run(deadline, cancel, beats);
}

}  // namespace packcast
