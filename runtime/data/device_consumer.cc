#include "runtime/data/device_consumer.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/data/broadcast_end.h"
#include "runtime/data/broadcast_setup.h"
#include "runtime/data/device_step.h"
#include "runtime/data/phase_timer.h"

namespace packcast {
namespace {

using internal::StepWork;

// A granted step until it is unpacked and verified.
struct InStep {
  const Step* plan = nullptr;
  uint32_t slot = 0;    // packed: the buffer
  size_t at_piece = 0;  // how far its work was handed to the engine
  bool arrived = false;
  bool unpacked = false;
  StepWork work;
};

}  // namespace

class DeviceConsumer::Impl final : public internal::BroadcastEnd {
 public:
  Impl(Collective* collective, CopyEngine* engine, const BroadcastOptions& options,
       const UnpackTable* table, UnpackCallback callback, RingHandle ring)
      : BroadcastEnd(collective, options, std::move(ring)),
        engine_(engine),
        plan_(*options.expected),
        rows_(options.manifest->rows()),
        table_(*table),
        callback_(std::move(callback)),
        in_place_(collective->reads_in_place()) {
    result_.rows = rows_.size();
  }
  ~Impl() override { AbortUnlessFinished(Cancelled("the consumer was destroyed")); }

 private:
  StatusOr<bool> Turn() override;
  Status StopWork() override { return engine_->Drain(internal::kDrainTimeout); }
  void Drop(bool) override { steps_.clear(); }
  double* wait_seconds() override { return &result_.seconds.receive; }

  bool IsShown(uint32_t row) const {
    const std::vector<uint32_t>& shown = table_.callback_rows();
    return std::binary_search(shown.begin(), shown.end(), row);
  }
  StatusOr<const std::byte*> BufferOf(const InStep& step, uint64_t sequence);
  Status Grant();
  StatusOr<bool> TakeBuffer(InStep* step);
  Status LaunchReady();
  Status Unpack(InStep* step, uint64_t sequence);
  Status AddPieces(InStep* step, uint64_t sequence);
  StatusOr<bool> AddWork(InStep* step, uint64_t sequence);
  StatusOr<bool> Verify(const InStep& step);
  Status Differs(const InStep& step, const StepSeal& seal) const;
  Status Deliver(const InStep& step);
  Status DeliverEmpty();
  Status Complete();
  StatusOr<bool> TryFinish();

  CopyEngine* const engine_;
  const Plan& plan_;
  const std::vector<Row>& rows_;
  const UnpackTable& table_;
  const UnpackCallback callback_;
  const bool in_place_;       // buffers are the root's
  std::deque<InStep> steps_;  // sequences base_, base_ + 1, ...
  uint64_t base_ = 0;
  uint64_t launched_ = 0;
  uint32_t direct_open_ = 0;
  uint32_t in_place_open_ = 0;
  bool said_finished_ = false;
};

StatusOr<bool> DeviceConsumer::Impl::Turn() {
  PC_RETURN_IF_ERROR(Grant());
  PC_RETURN_IF_ERROR(LaunchReady());
  for (uint64_t sequence = base_; sequence < launched_; ++sequence) {
    PC_RETURN_IF_ERROR(Unpack(&steps_[sequence - base_], sequence));
  }
  PC_RETURN_IF_ERROR(Complete());
  return TryFinish();
}

// Where a packed step that has arrived lies.
StatusOr<const std::byte*> DeviceConsumer::Impl::BufferOf(const InStep& step, uint64_t sequence) {
  if (!in_place_) return static_cast<const std::byte*>(ring_->data(step.slot));
  PC_ASSIGN_OR_RETURN(const auto landed, collective_->Landed(Sequence(sequence)));
  return landed.data();
}

// False when none is free.
StatusOr<bool> DeviceConsumer::Impl::TakeBuffer(InStep* step) {
  if (in_place_) {
    if (in_place_open_ >= options_.buffer_count) return false;
    ++in_place_open_;
    return true;
  }
  const std::optional<uint32_t> free = ring_->Acquire();
  if (!free) return false;
  step->slot = *free;
  // Only the compat layout's buffers grow.
  PC_RETURN_IF_ERROR(ring_->Grow(step->slot, step->plan->bytes, 0));
  return true;
}

Status DeviceConsumer::Impl::Grant() {
  while (base_ + steps_.size() < plan_.steps.size() && steps_.size() < kStepsInFlightMax) {
    const uint64_t sequence = base_ + steps_.size();
    InStep step;
    step.plan = &plan_.steps[sequence];
    if (step.plan->direct) {
      if (direct_open_ >= options_.direct_steps_in_flight) break;
      ++direct_open_;
    } else {
      PC_ASSIGN_OR_RETURN(const bool taken, TakeBuffer(&step));
      if (!taken) break;
    }
    PC_RETURN_IF_ERROR(collective_->Grant(Sequence(sequence)));
    steps_.push_back(std::move(step));
    progress_ = true;
  }
  return OkStatus();
}

Status DeviceConsumer::Impl::LaunchReady() {
  while (launched_ < base_ + steps_.size()) {
    PC_ASSIGN_OR_RETURN(const bool ready, collective_->Ready(Sequence(launched_)));
    if (!ready) break;
    InStep& step = steps_[launched_ - base_];
    const Step& plan = *step.plan;
    Operation operation{.sequence = Sequence(launched_),
                        .first_region = plan.region_begin,
                        .regions = plan.region_end - plan.region_begin,
                        .sealed = options_.hash};
    if (plan.direct) {
      for (uint32_t k = plan.region_begin; k < plan.region_end; ++k) {
        operation.spans.push_back({table_.memory(k), plan_.regions[k].bytes});
      }
    } else if (in_place_) {
      operation.spans.push_back({nullptr, plan.bytes});
    } else {
      ring_->Launch(step.slot);
      operation.spans.push_back({ring_->data(step.slot), plan.bytes});
    }
    PC_RETURN_IF_ERROR(collective_->Launch(std::move(operation)));
    ++launched_;
    progress_ = true;
  }
  return OkStatus();
}

Status DeviceConsumer::Impl::Unpack(InStep* step, uint64_t sequence) {
  if (step->unpacked) return OkStatus();
  if (!step->arrived) {
    PC_ASSIGN_OR_RETURN(step->arrived, collective_->Done(Sequence(sequence)));
    // Small tensors are many: their pieces are listed while the bytes are under way.
    if (!step->arrived) return in_place_ ? OkStatus() : AddPieces(step, sequence);
  }
  // Work under way is asked after again and again: nothing else tells of its end.
  progress_ = true;
  PC_ASSIGN_OR_RETURN(const bool added, AddWork(step, sequence));
  PC_ASSIGN_OR_RETURN(const bool worked, step->work.Advance(engine_));
  step->unpacked = added && worked;
  return OkStatus();
}

// As many as fit into one Submit.
Status DeviceConsumer::Impl::AddPieces(InStep* step, uint64_t sequence) {
  const std::span<const CopyPiece> pieces = table_.pieces(sequence);
  const std::span<const uint64_t> offsets = table_.offsets(sequence);
  if (step->at_piece == pieces.size()) return OkStatus();
  const std::byte* buffer = nullptr;
  if (!step->plan->direct) {
    PC_ASSIGN_OR_RETURN(buffer, BufferOf(*step, sequence));
  }
  if (step->at_piece == 0) step->work.Expect(pieces.size(), *engine_);
  for (; step->at_piece < pieces.size() && !step->work.IsFull(*engine_); ++step->at_piece) {
    CopyPiece piece = pieces[step->at_piece];
    if (buffer != nullptr) piece.from = buffer + offsets[step->at_piece];
    step->work.Add(piece);
  }
  return OkStatus();
}

// Hands the rest of a step's work to the engine. False when that has no room.
StatusOr<bool> DeviceConsumer::Impl::AddWork(InStep* step, uint64_t sequence) {
  // After the last step nothing is on the wire, and nothing hides how long this takes.
  const bool alone = !in_place_ && sequence + 1 == plan_.steps.size();
  const size_t pieces = table_.pieces(sequence).size();
  for (bool all = false; !all;) {
    PC_RETURN_IF_ERROR(AddPieces(step, sequence));
    all = step->at_piece == pieces;
    PC_ASSIGN_OR_RETURN(const bool flushed, step->work.Flush(engine_, nullptr, alone));
    if (!flushed) return false;
  }
  return true;
}

// False while the seal is not here yet.
StatusOr<bool> DeviceConsumer::Impl::Verify(const InStep& step) {
  if (!options_.hash) return true;
  PC_ASSIGN_OR_RETURN(const std::optional<StepSeal> seal, collective_->SealOf(Sequence(base_)));
  if (!seal) return false;
  if (seal->digest != step.work.seal().digest) return Differs(step, *seal);
  result_.content_digest = Combine(result_.content_digest, seal->digest);
  return true;
}

Status DeviceConsumer::Impl::Differs(const InStep& step, const StepSeal& seal) const {
  const std::string self = collective_->Describe(collective_->rank());
  const std::string root = collective_->Describe(collective_->root());
  const std::vector<uint64_t>& ours = step.work.seal().pieces;
  size_t index = 0;
  for (uint32_t k = step.plan->region_begin; k < step.plan->region_end; ++k) {
    const Region& region = plan_.regions[k];
    for (uint64_t at = 0; at < region.bytes; at += kPieceBytes, ++index) {
      if (seal.pieces.size() != ours.size() || ours[index] == seal.pieces[index]) continue;
      const uint64_t end = std::min(region.bytes, at + kPieceBytes);
      return DataLoss(self + ": tensor \"" + rows_[region.row].name + "\", bytes " +
                      std::to_string(region.offset + at) + " to " +
                      std::to_string(region.offset + end) + " (step " + std::to_string(base_) +
                      ", piece " + std::to_string(index) + "), differs from what " + root +
                      " sealed");
    }
  }
  const auto name = [this](uint32_t k) { return "\"" + rows_[plan_.regions[k].row].name + "\""; };
  return DataLoss(self + ": step " + std::to_string(base_) + " (tensors " +
                  name(step.plan->region_begin) + " to " + name(step.plan->region_end - 1) +
                  ") has checksum " + ToHex(step.work.seal().digest) + ", " + root + " sealed " +
                  ToHex(seal.digest));
}

Status DeviceConsumer::Impl::Complete() {
  while (!steps_.empty() && steps_.front().unpacked) {
    InStep& step = steps_.front();
    PC_ASSIGN_OR_RETURN(const bool spent, collective_->Spent(Sequence(base_)));
    if (!spent) break;
    PC_ASSIGN_OR_RETURN(const bool verified, Verify(step));
    if (!verified) break;
    const Step& plan = *step.plan;
    for (uint32_t k = plan.region_begin; k < plan.region_end; ++k) {
      result_.bytes += plan_.regions[k].bytes;
    }
    if (plan.direct) {
      --direct_open_;
    } else {
      PC_RETURN_IF_ERROR(Deliver(step));
      if (in_place_) {
        PC_RETURN_IF_ERROR(collective_->Release(Sequence(base_)));
        --in_place_open_;
      } else {
        ring_->Release(step.slot);
      }
    }
    result_.wire_bytes += plan.bytes;
    ++result_.steps;
    steps_.pop_front();
    ++base_;
    progress_ = true;
  }
  return OkStatus();
}

// Shows the callback its rows of a step.
Status DeviceConsumer::Impl::Deliver(const InStep& step) {
  if (table_.callback_rows().empty()) return OkStatus();
  PC_ASSIGN_OR_RETURN(const std::byte* const buffer, BufferOf(step, base_));
  std::vector<UnpackedRegion> shown;
  for (uint32_t k = step.plan->region_begin; k < step.plan->region_end; ++k) {
    const Region& region = plan_.regions[k];
    if (!IsShown(region.row)) continue;
    shown.push_back({region.row, &rows_[region.row], options_.manifest->row_bytes(region.row),
                     region.offset, region.bytes, buffer + region.buffer_offset});
  }
  if (shown.empty()) return OkStatus();
  PhaseTimer timer(&result_.seconds.unpack);
  return callback_(shown);
}

// Rows without bytes are in no step.
Status DeviceConsumer::Impl::DeliverEmpty() {
  std::vector<UnpackedRegion> shown;
  for (const uint32_t row : table_.callback_rows()) {
    const bool empty = options_.manifest->row_bytes(row) == 0;
    if (empty && Contains(options_.plan.rows, row)) shown.push_back({row, &rows_[row]});
  }
  return shown.empty() ? OkStatus() : callback_(shown);
}

StatusOr<bool> DeviceConsumer::Impl::TryFinish() {
  PC_ASSIGN_OR_RETURN(const std::optional<uint64_t> end, collective_->EndOf());
  if (end && *end != plan_.steps.size()) {
    return FailedPrecondition(collective_->Describe(collective_->rank()) + " expects " +
                              std::to_string(plan_.steps.size()) + " steps, but " +
                              collective_->Describe(collective_->root()) + " ended after " +
                              std::to_string(*end) + "; rows and settings must be equal");
  }
  if (!end || base_ < plan_.steps.size()) return false;
  if (!said_finished_) {
    PC_RETURN_IF_ERROR(DeliverEmpty());
    PC_RETURN_IF_ERROR(collective_->Finish());
    said_finished_ = true;
  }
  // Who stops polling before that may leave the root waiting for our word.
  return collective_->Flushed();
}

StatusOr<std::unique_ptr<DeviceConsumer>> DeviceConsumer::Make(Collective* collective,
                                                               CopyEngine* engine,
                                                               const BroadcastOptions& options,
                                                               const UnpackTable* table,
                                                               UnpackCallback callback) {
  if (collective->is_root()) {
    return InvalidArgument(collective->Describe(collective->rank()) +
                           " is the root and cannot consume");
  }
  if (options.manifest == nullptr || options.expected == nullptr) {
    return InvalidArgument("a device's consumer needs a manifest and its plan");
  }
  BroadcastOptions filled = options;
  filled.allocator = engine->allocator();
  PC_RETURN_IF_ERROR(CheckOptions(filled));
  RingHandle ring;
  if (!collective->reads_in_place()) {
    PC_ASSIGN_OR_RETURN(ring, MakeRing(filled));
  }
  return std::unique_ptr<DeviceConsumer>(new DeviceConsumer(std::make_unique<Impl>(
      collective, engine, filled, table, std::move(callback), std::move(ring))));
}

DeviceConsumer::DeviceConsumer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DeviceConsumer::~DeviceConsumer() = default;
StatusOr<bool> DeviceConsumer::Advance() { return impl_->Advance(); }
bool DeviceConsumer::idle() const { return impl_->idle(); }
void DeviceConsumer::Abort(const Status& why) { impl_->Abort(why); }
const BroadcastResult& DeviceConsumer::result() const { return impl_->result(); }

StatusOr<BroadcastResult> DeviceConsumer::Run(Time deadline, CancelToken* cancel,
                                              std::atomic<uint64_t>* beats) {
  return impl_->Run(deadline, cancel, beats);
}

}  // namespace packcast
