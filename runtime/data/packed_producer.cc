#include "runtime/data/packed_producer.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/failpoint.h"
#include "runtime/data/broadcast_end.h"
#include "runtime/data/broadcast_setup.h"
#include "runtime/data/phase_timer.h"
#include "runtime/data/tensor_reader.h"

namespace packcast {
namespace {

// A tensor between its Next and the moment nothing reads it any more: released when the last step
// that holds it is gone, on the thread that drives the producer.
class HeldTensor {
 public:
  HeldTensor(NamedTensor tensor, std::atomic<uint64_t>* released)
      : tensor_(std::move(tensor)), released_(released) {}
  ~HeldTensor() {
    if (is_kept_) return;
    if (tensor_.release) tensor_.release();
    released_->fetch_add(1);
  }
  HeldTensor(const HeldTensor&) = delete;
  HeldTensor& operator=(const HeldTensor&) = delete;

  const NamedTensor& tensor() const { return tensor_; }
  // A transport that could not be stopped may still read its memory: the owner keeps it for ever.
  void NeverRelease() { is_kept_ = true; }

 private:
  NamedTensor tensor_;
  std::atomic<uint64_t>* released_;
  bool is_kept_ = false;
};

// A tensor and how it is read.
struct ReadTensor {
  HeldTensor held;
  TensorReader reader;
};

struct SourceRegion {
  Region region;
  std::shared_ptr<ReadTensor> tensor;  // direct only
};

// A step from its first region until its bytes have left.
struct OutStep {
  bool direct = false;
  uint32_t slot = 0;  // packed: the buffer
  uint64_t bytes = 0;
  uint64_t first_region = 0;
  std::vector<SourceRegion> regions;
  ContentHash hash;
  size_t hash_region = 0;  // direct: how far hashing has come
  uint64_t hash_offset = 0;
  bool sealed = false;
};

}  // namespace

class PackedProducer::Impl final : public internal::BroadcastEnd {
 public:
  Impl(Collective* collective, TensorSource* source, const BroadcastOptions& options,
       TensorTransform transform, Planner planner, RingHandle ring)
      : BroadcastEnd(collective, options, std::move(ring)),
        source_(source),
        transform_(std::move(transform)),
        planner_(std::move(planner)) {
    source_->SetWake([collective] { collective->Wake(); });
  }

  ~Impl() override { AbortUnlessFinished(Cancelled("the producer was destroyed")); }

  std::atomic<uint64_t> rows_entered{0};
  std::atomic<uint64_t> rows_released{0};

 private:
  StatusOr<bool> Turn() override;
  void Drop(bool is_read) override;
  double* wait_seconds() override;
  std::string WaitingFor() override;
  bool MayWaitForRanks() override { return !waits_for_source_ || !steps_.empty(); }

  Status AdvanceSteps();
  Status Reap();
  Status LaunchReady();
  Status HashDirect(OutStep* step, uint64_t sequence);
  Status Seal(OutStep* step, uint64_t sequence);
  Status Fill();
  StatusOr<bool> HandleEvent();
  StatusOr<bool> OpenRegion();
  void PackSlice();
  Status CloseStep();
  StatusOr<bool> NextRow();
  StatusOr<std::optional<NamedTensor>> PullTensor();
  Status CheckStep(const OutStep& step) const;
  StatusOr<bool> TryFinish();

  TensorSource* const source_;
  const TensorTransform transform_;
  Planner planner_;
  bool waits_for_source_ = false;  // in this Advance

  std::shared_ptr<ReadTensor> current_;
  std::optional<Planner::Event> event_;  // next to be handled
  std::optional<Region> packing_;        // the rest of a region that is being packed
  std::optional<OutStep> packed_;        // open steps
  std::optional<OutStep> direct_;
  uint64_t packed_fill_ = 0;

  std::deque<OutStep> steps_;  // closed and not complete: sequences base_, base_ + 1, ...
  uint64_t base_ = 0;
  uint64_t launched_ = 0;
  uint64_t regions_ = 0;        // in closed steps
  uint32_t direct_closed_ = 0;  // direct steps in steps_
};

StatusOr<bool> PackedProducer::Impl::Turn() {
  waits_for_source_ = false;
  PC_RETURN_IF_ERROR(AdvanceSteps());
  PC_RETURN_IF_ERROR(Fill());
  PC_RETURN_IF_ERROR(AdvanceSteps());
  return TryFinish();
}

void PackedProducer::Impl::Drop(bool is_read) {
  // Only what was launched is read by the transport.
  for (uint64_t sequence = base_; is_read && sequence < launched_; ++sequence) {
    for (SourceRegion& region : steps_[sequence - base_].regions) {
      if (region.tensor != nullptr) region.tensor->held.NeverRelease();
    }
  }
  source_->SetWake(nullptr);
  packing_.reset();
  packed_.reset();
  direct_.reset();
  steps_.clear();
  current_.reset();
}

double* PackedProducer::Impl::wait_seconds() {
  if (launched_ < base_ + steps_.size()) return &result_.seconds.credit;
  return waits_for_source_ ? &result_.seconds.source : &result_.seconds.send;
}

std::string PackedProducer::Impl::WaitingFor() {
  if (!waits_for_source_) return collective_->WaitingFor();
  const std::string row = "row " + std::to_string(planner_.rows()) + " of its source";
  return steps_.empty() ? row : row + " and " + collective_->WaitingFor();
}

Status PackedProducer::Impl::AdvanceSteps() {
  PC_RETURN_IF_ERROR(Reap());
  PC_RETURN_IF_ERROR(LaunchReady());
  // The newest are not launched yet; the rest may wait for their checksum.
  for (uint64_t sequence = base_; sequence < launched_ && budget_ > 0; ++sequence) {
    OutStep& step = steps_[sequence - base_];
    if (!step.sealed) PC_RETURN_IF_ERROR(HashDirect(&step, sequence));
  }
  return Reap();
}

Status PackedProducer::Impl::Reap() {
  while (base_ < launched_ && steps_.front().sealed) {
    PC_ASSIGN_OR_RETURN(const bool done, collective_->Done(Sequence(base_)));
    if (!done) break;
    if (steps_.front().direct) {
      --direct_closed_;
    } else {
      ring_->Release(steps_.front().slot);
    }
    steps_.pop_front();
    ++base_;
    progress_ = true;
  }
  return OkStatus();
}

Status PackedProducer::Impl::LaunchReady() {
  while (launched_ < base_ + steps_.size()) {
    PC_ASSIGN_OR_RETURN(const bool ready, collective_->Ready(Sequence(launched_)));
    if (!ready) break;
    OutStep& step = steps_[launched_ - base_];
    Operation operation{.sequence = Sequence(launched_),
                        .first_region = step.first_region,
                        .regions = static_cast<uint32_t>(step.regions.size()),
                        .sealed = options_.hash};
    if (step.direct) {
      for (const SourceRegion& region : step.regions) {
        // Root spans are only read.
        auto* data = const_cast<std::byte*>(region.tensor->reader.data());
        operation.spans.push_back({data + region.region.offset, region.region.bytes});
      }
    } else {
      ring_->Launch(step.slot);
      operation.spans.push_back({ring_->data(step.slot), step.bytes});
    }
    PC_RETURN_IF_ERROR(Failpoint("root.launch"));
    PC_RETURN_IF_ERROR(collective_->Launch(std::move(operation)));
    if (!step.direct || !options_.hash) PC_RETURN_IF_ERROR(Seal(&step, launched_));
    ++launched_;
    progress_ = true;
  }
  return OkStatus();
}

Status PackedProducer::Impl::Seal(OutStep* step, uint64_t sequence) {
  step->sealed = true;
  if (!options_.hash) return OkStatus();
  PC_RETURN_IF_ERROR(Failpoint("root.seal"));
  result_.content_digest = Combine(result_.content_digest, step->hash.digest());
  return collective_->Seal(Sequence(sequence), step->hash.digest());
}

// Direct regions are hashed while they are being sent.
Status PackedProducer::Impl::HashDirect(OutStep* step, uint64_t sequence) {
  PhaseTimer timer(&result_.seconds.hash);
  while (budget_ > 0 && step->hash_region < step->regions.size()) {
    const SourceRegion& source = step->regions[step->hash_region];
    const uint64_t part = std::min(internal::kSliceBytes, source.region.bytes - step->hash_offset);
    const uint64_t offset = source.region.offset + step->hash_offset;
    step->hash.Add(source.region.row, offset, {source.tensor->reader.data() + offset, part});
    step->hash_offset += part;
    budget_ -= std::min(budget_, part + internal::kEventBytes);
    if (step->hash_offset == source.region.bytes) {
      ++step->hash_region;
      step->hash_offset = 0;
    }
  }
  progress_ = true;
  return step->hash_region == step->regions.size() ? Seal(step, sequence) : OkStatus();
}

Status PackedProducer::Impl::Fill() {
  while (budget_ > 0) {
    if (packing_) {
      PackSlice();
      continue;
    }
    if (!event_) {
      PC_ASSIGN_OR_RETURN(event_, planner_.Next());
    }
    PC_ASSIGN_OR_RETURN(const bool handled, HandleEvent());
    if (!handled) break;
    progress_ = true;
    budget_ -= std::min(budget_, internal::kEventBytes);
  }
  return OkStatus();
}

// False when it cannot be handled now; `event_` stays then.
StatusOr<bool> PackedProducer::Impl::HandleEvent() {
  switch (event_->kind) {
    case Planner::Event::Kind::kRegion: {
      PC_ASSIGN_OR_RETURN(const bool opened, OpenRegion());
      if (!opened) return false;
      break;
    }
    case Planner::Event::Kind::kStep: PC_RETURN_IF_ERROR(CloseStep()); break;
    case Planner::Event::Kind::kNeedRow: {
      PC_ASSIGN_OR_RETURN(const bool pulled, NextRow());
      if (!pulled) return false;
      break;
    }
    case Planner::Event::Kind::kEnd: return false;
  }
  event_.reset();
  return true;
}

StatusOr<bool> PackedProducer::Impl::OpenRegion() {
  const Region& region = event_->region;
  if (event_->direct) {
    if (!direct_ && direct_closed_ >= options_.direct_steps_in_flight) return false;
    if (!current_->reader.is_plain()) {
      return InvalidArgument("tensor \"" + current_->held.tensor().name +
                             "\" is converted or not contiguous and cannot travel direct");
    }
    if (!direct_) direct_.emplace().direct = true;
    direct_->regions.push_back({region, current_});
  } else {
    if (!packed_) {
      const std::optional<uint32_t> slot = ring_->Acquire();
      if (!slot) return false;
      packed_.emplace().slot = *slot;
      packed_fill_ = 0;
    }
    const uint64_t end = region.buffer_offset + region.bytes;
    PC_RETURN_IF_ERROR(ring_->Grow(packed_->slot, end, packed_fill_));
    // Padding is sent too: no stale bytes in it.
    std::memset(ring_->data(packed_->slot) + packed_fill_, 0, region.buffer_offset - packed_fill_);
    packed_fill_ = end;
    packed_->regions.push_back({region, nullptr});
    packing_ = region;
  }
  result_.bytes += region.bytes;
  return true;
}

void PackedProducer::Impl::PackSlice() {
  Region& rest = *packing_;
  const uint64_t part = std::min(internal::kSliceBytes, rest.bytes);
  std::byte* const to = ring_->data(packed_->slot) + rest.buffer_offset;
  {
    PhaseTimer timer(&result_.seconds.pack);
    current_->reader.Read(rest.offset, part, to);
  }
  if (options_.hash) {
    PhaseTimer timer(&result_.seconds.hash);
    packed_->hash.Add(rest.row, rest.offset, {to, part});
  }
  rest.offset += part;
  rest.buffer_offset += part;
  rest.bytes -= part;
  budget_ -= std::min(budget_, part);
  progress_ = true;
  if (rest.bytes == 0) packing_.reset();
}

Status PackedProducer::Impl::CloseStep() {
  std::optional<OutStep>& open = event_->direct ? direct_ : packed_;
  open->bytes = event_->step_bytes;
  open->first_region = regions_;
  regions_ += open->regions.size();
  PC_RETURN_IF_ERROR(CheckStep(*open));
  if (event_->direct) ++direct_closed_;
  result_.wire_bytes += open->bytes;
  ++result_.steps;
  steps_.push_back(std::move(*open));
  open.reset();
  return OkStatus();
}

Status PackedProducer::Impl::CheckStep(const OutStep& step) const {
  if (options_.expected == nullptr) return OkStatus();
  std::vector<Region> regions;
  regions.reserve(step.regions.size());
  for (const SourceRegion& region : step.regions) regions.push_back(region.region);
  return CheckPlannedStep(*options_.expected, base_ + steps_.size(), step.direct, step.bytes,
                          step.first_region, regions);
}

StatusOr<std::optional<NamedTensor>> PackedProducer::Impl::PullTensor() {
  PhaseTimer timer(&result_.seconds.source);
  PC_ASSIGN_OR_RETURN(std::optional<NamedTensor> tensor, source_->Next());
  if (tensor) rows_entered.fetch_add(1);
  if (!tensor || !transform_) return tensor;
  const std::function<void()> release = tensor->release;
  StatusOr<NamedTensor> transformed = transform_(std::move(*tensor));
  if (!transformed.ok()) {
    if (release) release();
    return transformed.status();
  }
  return std::optional<NamedTensor>(std::move(*transformed));
}

// False while the source has nothing yet.
StatusOr<bool> PackedProducer::Impl::NextRow() {
  current_.reset();  // first: the source may wait for its release
  if (cancel_ != nullptr && cancel_->cancelled()) return cancel_->status();
  if (!source_->Ready()) {
    waits_for_source_ = true;
    return false;
  }
  PC_ASSIGN_OR_RETURN(std::optional<NamedTensor> tensor, PullTensor());
  const uint32_t row = planner_.rows();
  if (!tensor) {
    PC_RETURN_IF_ERROR(CheckRowsEnd(options_, row));
    source_->SetWake(nullptr);
    planner_.Finish();
    return true;
  }
  if (!Contains(options_.plan.rows, row)) {  // not of this broadcast
    if (tensor->release) tensor->release();
    rows_released.fetch_add(1);
    planner_.AddRow(0);
    return true;
  }
  StatusOr<TensorReader> reader = TensorReader::Make(*tensor);
  Status status = reader.status();
  if (status.ok()) status = CheckRow(options_, row, RowOf(*tensor), reader->wire_bytes());
  if (!status.ok()) {
    if (tensor->release) tensor->release();
    return status;
  }
  const uint64_t bytes = reader->wire_bytes();
  current_.reset(
      new ReadTensor{HeldTensor(std::move(*tensor), &rows_released), std::move(reader).value()});
  planner_.AddRow(bytes);
  ++result_.rows;
  return true;
}

StatusOr<bool> PackedProducer::Impl::TryFinish() {
  const bool planned = event_ && event_->kind == Planner::Event::Kind::kEnd;
  if (!planned || launched_ < base_ + steps_.size()) return false;
  return EndStream(launched_, steps_.empty());
}

StatusOr<std::unique_ptr<PackedProducer>> PackedProducer::Make(Collective* collective,
                                                               TensorSource* source,
                                                               const BroadcastOptions& options,
                                                               TensorTransform transform) {
  if (!collective->is_root()) {
    return InvalidArgument(collective->Describe(collective->rank()) +
                           " is not the root and cannot produce");
  }
  PC_ASSIGN_OR_RETURN(Planner planner, Planner::Make(options.plan));
  PC_ASSIGN_OR_RETURN(RingHandle ring, MakeRing(options));
  return std::unique_ptr<PackedProducer>(new PackedProducer(std::make_unique<Impl>(
      collective, source, options, std::move(transform), std::move(planner), std::move(ring))));
}

PackedProducer::PackedProducer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PackedProducer::~PackedProducer() = default;
StatusOr<bool> PackedProducer::Advance() { return impl_->Advance(); }
bool PackedProducer::idle() const { return impl_->idle(); }
void PackedProducer::Abort(const Status& why) { impl_->Abort(why); }
uint64_t PackedProducer::rows_entered() const { return impl_->rows_entered.load(); }
uint64_t PackedProducer::rows_released() const { return impl_->rows_released.load(); }
const BroadcastResult& PackedProducer::result() const { return impl_->result(); }

StatusOr<BroadcastResult> PackedProducer::Run(Time deadline, CancelToken* cancel,
                                              std::atomic<uint64_t>* beats) {
  return impl_->Run(deadline, cancel, beats);
}

}  // namespace packcast
