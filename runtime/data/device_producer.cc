#include "runtime/data/device_producer.h"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/data/broadcast_end.h"
#include "runtime/data/broadcast_setup.h"
#include "runtime/data/device_step.h"
#include "runtime/data/held_batch.h"
#include "runtime/data/phase_timer.h"

namespace packcast {
namespace {

using internal::StepWork;

// What a row costs an Advance, however small it is.
constexpr uint64_t kRowBytes = 512;

using BatchPtr = std::shared_ptr<HeldBatch>;

// A step from its first region until its bytes have left.
struct OutStep {
  const Step* plan = nullptr;
  std::optional<uint32_t> slot;  // packed: the buffer, once one is free
  uint32_t next_region = 0;
  StepWork work;
  void* ready = nullptr;          // what the pieces that wait need
  std::vector<BatchPtr> batches;  // whose bytes it still reads
  std::vector<Span> spans;        // direct
  std::vector<void*> events;      // direct: before the spans may be read
  bool worked = false;            // all copies and checksums are done
  bool launched = false;
  bool sealed = false;
};

}  // namespace

class DeviceProducer::Impl final : public internal::BroadcastEnd {
 public:
  Impl(Collective* collective, BatchSource* source, CopyEngine* engine,
       const BroadcastOptions& options, RingHandle ring)
      : BroadcastEnd(collective, options, std::move(ring)),
        source_(source),
        engine_(engine),
        plan_(*options.expected) {
    source_->SetWake([collective] { collective->Wake(); });
    packed_.step = NextStep(0, false);
    direct_.step = NextStep(0, true);
  }
  ~Impl() override { AbortUnlessFinished(Cancelled("the producer was destroyed")); }

  std::atomic<uint64_t> rows_entered{0};
  std::atomic<uint64_t> rows_released{0};

 private:
  // Where the walk over the steps of one kind has come: rows go to both kinds in turn.
  struct Walk {
    size_t step = 0;  // into plan_.steps; their size at the end
    std::optional<OutStep> open;
  };

  StatusOr<bool> Turn() override;
  Status StopWork() override { return engine_->Drain(internal::kDrainTimeout); }
  void Drop(bool is_read) override;
  double* wait_seconds() override;
  std::string WaitingFor() override;
  bool MayWaitForRanks() override { return !waits_for_source_ || !steps_.empty(); }

  size_t NextStep(size_t from, bool direct) const;
  // Nothing is on the wire yet, and nothing hides how long packing takes. Checksums of direct
  // steps are not waited for.
  bool IsAlone(const OutStep& step) const { return launched_ == 0 && !step.plan->direct; }
  Status Fill();
  StatusOr<bool> NextBatch();
  Status BeginRow();
  StatusOr<bool> AddRow();
  StatusOr<bool> AddRegion(Walk* walk, const Region& region);
  StatusOr<bool> AddPieces(OutStep* step, const Region& region);
  StatusOr<bool> TakeBuffer(OutStep* step);
  StatusOr<bool> Flush(OutStep* step);
  StatusOr<bool> Close(Walk* walk);
  Status FlushOpen();
  Status AdvanceSteps();
  StatusOr<bool> CanLaunch(OutStep* step);
  Status Launch(OutStep* step);
  Status Reap();
  StatusOr<bool> TryFinish();

  BatchSource* const source_;
  CopyEngine* const engine_;
  const Plan& plan_;
  Walk packed_;
  Walk direct_;
  BatchPtr batch_;        // that of the row which is being added
  size_t batch_row_ = 0;  // its place in it
  TensorAccess access_;   // of it
  uint32_t row_ = 0;      // its number, or that of the next
  uint64_t row_done_ = 0;
  uint64_t piece_done_ = 0;  // of its region
  bool is_over_ = false;     // the source has ended
  bool waits_for_source_ = false;

  std::deque<OutStep> steps_;  // closed and not complete: sequences base_, base_ + 1, ...
  // Closed, while one before is open. A packed step is full when the row after it does not fit;
  // the plan has it there, the walk over its regions is through with it earlier. One at most.
  std::map<uint64_t, OutStep> early_;
  uint64_t base_ = 0;
  uint64_t launched_ = 0;
  uint32_t direct_closed_ = 0;
};

size_t DeviceProducer::Impl::NextStep(size_t from, bool direct) const {
  while (from < plan_.steps.size() && plan_.steps[from].direct != direct) ++from;
  return from;
}

StatusOr<bool> DeviceProducer::Impl::Turn() {
  waits_for_source_ = false;
  PC_RETURN_IF_ERROR(AdvanceSteps());
  PC_RETURN_IF_ERROR(Fill());
  PC_RETURN_IF_ERROR(AdvanceSteps());
  return TryFinish();
}

void DeviceProducer::Impl::Drop(bool is_read) {
  source_->SetWake(nullptr);
  if (is_read) {
    const auto keep = [](const OutStep& step) {
      for (const BatchPtr& batch : step.batches) batch->NeverRelease();
    };
    if (batch_ != nullptr) batch_->NeverRelease();
    for (const OutStep& step : steps_) keep(step);
    for (const auto& [sequence, step] : early_) keep(step);
    for (Walk* walk : {&packed_, &direct_}) {
      if (walk->open) keep(*walk->open);
    }
  }
  packed_.open.reset();
  direct_.open.reset();
  early_.clear();
  steps_.clear();
  batch_.reset();
}

double* DeviceProducer::Impl::wait_seconds() {
  if (launched_ < base_ + steps_.size() && steps_[launched_ - base_].worked) {
    return &result_.seconds.credit;
  }
  return waits_for_source_ ? &result_.seconds.source : &result_.seconds.send;
}

std::string DeviceProducer::Impl::WaitingFor() {
  if (!waits_for_source_) return collective_->WaitingFor();
  const std::string row = "row " + std::to_string(row_) + " of its source";
  return steps_.empty() ? row : row + " and " + collective_->WaitingFor();
}

// ---- from rows to steps -------------------------------------------------------------------------

Status DeviceProducer::Impl::Fill() {
  while (budget_ > 0 && !is_over_) {
    if (batch_ == nullptr) {
      PC_ASSIGN_OR_RETURN(const bool pulled, NextBatch());
      if (!pulled) break;
    }
    PC_ASSIGN_OR_RETURN(const bool added, AddRow());
    if (!added) return OkStatus();
    progress_ = true;
    budget_ -= std::min(budget_, kRowBytes);
  }
  // A source that holds few tensors at a time gets them back while a step is not full.
  return waits_for_source_ ? FlushOpen() : OkStatus();
}

// False when the source has nothing yet, or no more.
StatusOr<bool> DeviceProducer::Impl::NextBatch() {
  if (cancel_ != nullptr && cancel_->cancelled()) return cancel_->status();
  if (!source_->Ready()) {
    waits_for_source_ = true;
    return false;
  }
  PhaseTimer timer(&result_.seconds.source);
  PC_ASSIGN_OR_RETURN(std::optional<TensorBatch> batch, source_->Next());
  if (!batch) {
    PC_RETURN_IF_ERROR(CheckRowsEnd(options_, row_));
    source_->SetWake(nullptr);
    is_over_ = true;
    progress_ = true;
    return false;
  }
  rows_entered.fetch_add(batch->tensors.size());
  batch_ = std::make_shared<HeldBatch>(std::move(*batch), &rows_released);
  batch_row_ = 0;
  if (batch_->tensors().empty()) return InvalidArgument("the source gave a batch of no tensors");
  const size_t rows = options_.manifest->size();
  if (batch_->tensors().size() > rows - row_) {
    return InvalidArgument("the source gave more tensors than the manifest's " +
                           std::to_string(rows) + " rows");
  }
  PC_RETURN_IF_ERROR(BeginRow());
  return true;
}

Status DeviceProducer::Impl::BeginRow() {
  row_done_ = 0;
  if (!Contains(options_.plan.rows, row_)) {  // not of this broadcast
    access_ = TensorAccess();
    return OkStatus();
  }
  PC_RETURN_IF_ERROR(access_.Set(options_.manifest->rows()[row_],
                                 options_.manifest->row_bytes(row_),
                                 batch_->tensors()[batch_row_]));
  ++result_.rows;
  return OkStatus();
}

// Adds the rest of the current row to its step or steps. False when that must wait.
StatusOr<bool> DeviceProducer::Impl::AddRow() {
  while (row_done_ < access_.wire_bytes) {
    const auto next = [this](const Walk& walk) -> const Region* {
      if (walk.step == plan_.steps.size()) return nullptr;
      const uint32_t begin = plan_.steps[walk.step].region_begin;
      return &plan_.regions[walk.open ? walk.open->next_region : begin];
    };
    Walk* walk = &packed_;
    const Region* region = next(packed_);
    if (region == nullptr || region->row != row_) {
      walk = &direct_;
      region = next(direct_);
    }
    PC_ASSIGN_OR_RETURN(const bool added, AddRegion(walk, *region));
    if (!added) return false;
  }
  ++row_;
  if (++batch_row_ < batch_->tensors().size()) {
    PC_RETURN_IF_ERROR(BeginRow());
  } else {
    batch_.reset();
  }
  return true;
}

StatusOr<bool> DeviceProducer::Impl::AddRegion(Walk* walk, const Region& region) {
  const Step& plan = plan_.steps[walk->step];
  if (!walk->open) {
    if (plan.direct && direct_closed_ >= options_.direct_steps_in_flight) return false;
    walk->open.emplace();
    walk->open->plan = &plan;
    walk->open->next_region = plan.region_begin;
    walk->open->work.Expect(plan.region_end - plan.region_begin, *engine_);
    // Small tensors are many: while no buffer is free their pieces are listed.
    if (!plan.direct) PC_RETURN_IF_ERROR(TakeBuffer(&*walk->open).status());
  }
  OutStep& step = *walk->open;
  if (plan.direct && !access_.is_plain()) {
    return InvalidArgument("tensor \"" + options_.manifest->rows()[row_].name +
                           "\" is converted or not contiguous and cannot travel direct; offer no "
                           "direct rows (direct_bytes_min = 0)");
  }
  if (!plan.direct || options_.hash) {
    PC_ASSIGN_OR_RETURN(const bool added, AddPieces(&step, region));
    if (!added) return false;
  }
  void* const ready = batch_->ready();
  if (plan.direct) {
    // Root spans are only read.
    auto* data = const_cast<std::byte*>(access_.data);
    step.spans.push_back({data + region.offset, region.bytes});
    if (ready != nullptr && (step.events.empty() || step.events.back() != ready)) {
      step.events.push_back(ready);
    }
  }
  if (step.batches.empty() || step.batches.back() != batch_) step.batches.push_back(batch_);
  if (step.next_region + 1 == plan.region_end) {
    PC_ASSIGN_OR_RETURN(const bool closed, Close(walk));
    if (!closed) {
      // Once more later: what was added above stays as it is.
      if (plan.direct) step.spans.pop_back();
      return false;
    }
  } else {
    ++step.next_region;
  }
  piece_done_ = 0;
  row_done_ += region.bytes;
  result_.bytes += region.bytes;
  return true;
}

// The pieces of a region that are not added yet. False when the engine must go on first.
StatusOr<bool> DeviceProducer::Impl::AddPieces(OutStep* step, const Region& region) {
  void* const ready = batch_->ready();
  uint16_t layout = CopyPiece::kContiguous;
  while (piece_done_ < region.bytes) {
    const bool other_event = step->work.has_waiting() && step->ready != ready;
    if (step->work.IsFull(*engine_) || other_event) {
      PC_ASSIGN_OR_RETURN(const bool flushed, Flush(step));
      if (!flushed) return false;
      layout = CopyPiece::kContiguous;
    }
    step->ready = ready;
    if (!access_.contiguous && layout == CopyPiece::kContiguous) {
      layout = step->work.AddLayout(access_.layout);
    }
    const auto bytes =
        static_cast<uint32_t>(std::min<uint64_t>(kPieceBytes, region.bytes - piece_done_));
    std::byte* to = nullptr;
    if (step->slot) to = ring_->data(*step->slot) + region.buffer_offset + piece_done_;
    CopyPiece piece = PieceOf(access_, region.row, region.offset + piece_done_, bytes, to, layout);
    piece.hashed = options_.hash ? 1 : 0;
    step->work.Add(piece);
    piece_done_ += bytes;
    budget_ -= std::min<uint64_t>(budget_, sizeof piece);
  }
  return true;
}

// False when none is free.
StatusOr<bool> DeviceProducer::Impl::TakeBuffer(OutStep* step) {
  if (step->slot) return true;
  step->slot = ring_->Acquire();
  if (!step->slot) return false;
  // Only the compat layout's buffers grow.
  PC_RETURN_IF_ERROR(ring_->Grow(*step->slot, step->plan->bytes, 0));
  step->work.Place(plan_, *step->plan, ring_->data(*step->slot));
  return true;
}

// False when the engine must go on first, or a buffer is to come free.
StatusOr<bool> DeviceProducer::Impl::Flush(OutStep* step) {
  if (!step->plan->direct) {
    PC_ASSIGN_OR_RETURN(const bool taken, TakeBuffer(step));
    if (!taken) return false;
  }
  return step->work.Flush(engine_, step->ready, IsAlone(*step));
}

// False when Flush says so.
StatusOr<bool> DeviceProducer::Impl::Close(Walk* walk) {
  OutStep& step = *walk->open;
  PC_ASSIGN_OR_RETURN(const bool flushed, Flush(&step));
  if (!flushed) return false;
  if (step.plan->direct) ++direct_closed_;
  result_.wire_bytes += step.plan->bytes;
  ++result_.steps;
  early_.emplace(walk->step, std::move(step));
  walk->open.reset();
  walk->step = NextStep(walk->step + 1, walk == &direct_);
  for (auto next = early_.begin(); next != early_.end() && next->first == base_ + steps_.size();
       next = early_.erase(next)) {
    steps_.push_back(std::move(next->second));
  }
  return true;
}

Status DeviceProducer::Impl::FlushOpen() {
  for (Walk* walk : {&packed_, &direct_}) {
    if (!walk->open || !walk->open->work.has_waiting()) continue;
    PC_RETURN_IF_ERROR(Flush(&*walk->open).status());
  }
  return OkStatus();
}

// ---- from steps to the wire ---------------------------------------------------------------------

Status DeviceProducer::Impl::AdvanceSteps() {
  for (Walk* walk : {&packed_, &direct_}) {
    if (!walk->open) continue;
    PC_ASSIGN_OR_RETURN(const bool done, walk->open->work.Advance(engine_));
    if (walk->open->work.is_running()) progress_ = true;
    // Packed bytes are in the buffer once the work is done: their tensors are free.
    if (done && walk == &packed_) walk->open->batches.clear();
  }
  // Their work is with the engine, which has room for few: it must be taken back there too.
  for (auto& [sequence, step] : early_) {
    PC_RETURN_IF_ERROR(step.work.Advance(engine_).status());
    if (step.work.is_running()) progress_ = true;
  }
  for (uint64_t sequence = base_; sequence < base_ + steps_.size(); ++sequence) {
    OutStep& step = steps_[sequence - base_];
    if (!step.worked) {
      PC_ASSIGN_OR_RETURN(step.worked, step.work.Advance(engine_));
      // Work under way is asked after again and again: nothing else tells of its end.
      progress_ = true;
      if (step.worked && !step.plan->direct) step.batches.clear();
    }
    if (!step.launched && sequence == launched_) {
      PC_ASSIGN_OR_RETURN(const bool can, CanLaunch(&step));
      if (can) PC_RETURN_IF_ERROR(Launch(&step));
    }
    if (step.launched && step.worked && !step.sealed) {
      step.sealed = true;
      if (!options_.hash) continue;
      result_.content_digest = Combine(result_.content_digest, step.work.seal().digest);
      PC_RETURN_IF_ERROR(collective_->Seal(Sequence(sequence), step.work.seal()));
    }
  }
  return Reap();
}

// Whether a step's bytes are where they are sent from, or the collective waits for that.
StatusOr<bool> DeviceProducer::Impl::CanLaunch(OutStep* step) {
  if (!step->plan->direct) return step->worked;
  if (collective_->awaits_ready()) return true;
  while (!step->events.empty()) {
    PC_ASSIGN_OR_RETURN(const bool fired, engine_->HasFired(step->events.back()));
    if (!fired) {
      progress_ = true;  // asked after again and again: nothing else tells of it
      return false;
    }
    step->events.pop_back();
  }
  return true;
}

Status DeviceProducer::Impl::Launch(OutStep* step) {
  PC_ASSIGN_OR_RETURN(const bool ready, collective_->Ready(Sequence(launched_)));
  if (!ready) return OkStatus();
  const Step& plan = *step->plan;
  Operation operation{.sequence = Sequence(launched_),
                      .spans = step->spans,
                      .first_region = plan.region_begin,
                      .regions = plan.region_end - plan.region_begin,
                      .sealed = options_.hash,
                      .ready = step->events};
  if (!plan.direct) {
    ring_->Launch(*step->slot);
    operation.spans.push_back({ring_->data(*step->slot), plan.bytes});
  }
  PC_RETURN_IF_ERROR(collective_->Launch(std::move(operation)));
  step->launched = true;
  ++launched_;
  progress_ = true;
  return OkStatus();
}

Status DeviceProducer::Impl::Reap() {
  while (base_ < launched_ && steps_.front().sealed) {
    PC_ASSIGN_OR_RETURN(const bool done, collective_->Done(Sequence(base_)));
    if (!done) break;
    if (steps_.front().plan->direct) {
      --direct_closed_;
    } else {
      ring_->Release(*steps_.front().slot);
    }
    steps_.pop_front();
    ++base_;
    progress_ = true;
  }
  return OkStatus();
}

StatusOr<bool> DeviceProducer::Impl::TryFinish() {
  if (!is_over_ || launched_ < base_ + steps_.size()) return false;
  return EndStream(launched_, steps_.empty());
}

StatusOr<std::unique_ptr<DeviceProducer>> DeviceProducer::Make(Collective* collective,
                                                               BatchSource* source,
                                                               CopyEngine* engine,
                                                               const BroadcastOptions& options) {
  if (!collective->is_root()) {
    return InvalidArgument(collective->Describe(collective->rank()) + " is not the root, " +
                           collective->Describe(collective->root()) + ", and cannot produce");
  }
  if (options.manifest == nullptr || options.expected == nullptr) {
    return InvalidArgument("a device's producer needs a manifest and its plan");
  }
  BroadcastOptions filled = options;
  filled.allocator = engine->allocator();
  PC_ASSIGN_OR_RETURN(RingHandle ring, MakeRing(filled));
  return std::unique_ptr<DeviceProducer>(new DeviceProducer(
      std::make_unique<Impl>(collective, source, engine, filled, std::move(ring))));
}

DeviceProducer::DeviceProducer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DeviceProducer::~DeviceProducer() = default;
StatusOr<bool> DeviceProducer::Advance() { return impl_->Advance(); }
bool DeviceProducer::idle() const { return impl_->idle(); }
void DeviceProducer::Abort(const Status& why) { impl_->Abort(why); }
uint64_t DeviceProducer::rows_entered() const { return impl_->rows_entered.load(); }
uint64_t DeviceProducer::rows_released() const { return impl_->rows_released.load(); }
const BroadcastResult& DeviceProducer::result() const { return impl_->result(); }

StatusOr<BroadcastResult> DeviceProducer::Run(Time deadline, CancelToken* cancel,
                                              std::atomic<uint64_t>* beats) {
  return impl_->Run(deadline, cancel, beats);
}

}  // namespace packcast
