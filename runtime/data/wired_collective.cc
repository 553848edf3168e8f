#include <algorithm>
#include <thread>
#include <utility>

#include "runtime/base/clock.h"
#include "runtime/data/collective_base.h"
#include "runtime/data/wire.h"

namespace packcast {
namespace {

// A wire has nothing to sleep on, so Poll looks at it again and again: without a pause for as long
// as an operation of usual size takes, then more rarely.
constexpr Duration kSpin = Milliseconds(20);
constexpr Duration kPause = Milliseconds(1);

class WiredCollective final : public CollectiveBase {
 public:
  WiredCollective(const JoinOptions& options, std::unique_ptr<Collective> control,
                  std::unique_ptr<Wire> wire)
      : CollectiveBase(options), control_(std::move(control)), wire_(std::move(wire)) {}

  ~WiredCollective() override { (void)wire_->Abort(); }

  StatusOr<bool> Joined() override;
  Status Begin(const StreamId& stream) override;
  Status Grant(Sequence sequence) override { return control_->Grant(sequence); }
  StatusOr<bool> Ready(Sequence sequence) override { return control_->Ready(sequence); }
  Status Launch(Operation operation) override;
  bool awaits_ready() const override { return !wire_->is_one_sided(); }
  bool reads_in_place() const override { return !is_root() && wire_->reads_in_place(); }
  StatusOr<std::span<const std::byte>> Landed(Sequence sequence) override {
    return wire_->Landed(base_ + sequence.value);
  }
  Status Release(Sequence sequence) override {
    PC_RETURN_IF_ERROR(control_->Release(sequence));
    wire_->Release();
    return OkStatus();
  }
  StatusOr<bool> Done(Sequence sequence) override;
  Status Seal(Sequence sequence, const StepSeal& seal) override {
    return control_->Seal(sequence, seal);
  }
  StatusOr<std::optional<StepSeal>> SealOf(Sequence sequence) override {
    return control_->SealOf(sequence);
  }
  Status End(uint64_t steps) override { return control_->End(steps); }
  StatusOr<std::optional<uint64_t>> EndOf() override { return control_->EndOf(); }
  Status Finish() override { return control_->Finish(); }
  StatusOr<bool> Finished() override { return control_->Finished(); }
  StatusOr<bool> Flushed() override { return control_->Flushed(); }
  Status Poll(Duration max_wait) override;
  void Wake() override { control_->Wake(); }
  Status Abort(std::string_view reason) override;
  void BeginAbort(std::string_view reason) override;
  std::string WaitingFor() override;
  std::vector<uint32_t> Late() override;
  void Accuse(uint32_t rank) override { control_->Accuse(rank); }
  std::optional<uint32_t> culprit() const override { return control_->culprit(); }
  const CollectiveProgress& progress() const override { return progress_; }

 private:
  Status Complete();
  StatusOr<uint64_t> CountComplete();
  bool wire_is_idle() const { return completed_ == launched_; }

  const std::unique_ptr<Collective> control_;
  const std::unique_ptr<Wire> wire_;
  bool up_ = false;
  // Operations on the wire since it came up; those of this stream have sequences from base_ on.
  uint64_t launched_ = 0;
  uint64_t completed_ = 0;
  uint64_t base_ = 0;
  std::deque<uint64_t> bytes_;  // of operations that are not complete
  Time last_change_{};
  CollectiveProgress progress_;
};

StatusOr<bool> WiredCollective::Joined() {
  PC_ASSIGN_OR_RETURN(const bool joined, control_->Joined());
  if (up_) return joined;
  // Coming up needs the others only, not their words.
  PC_ASSIGN_OR_RETURN(up_, wire_->Up());
  if (!up_ && Now() >= options().deadline) {
    return DeadlineExceeded(Describe(rank()) + " could not connect to all others");
  }
  return joined && up_;
}

Status WiredCollective::Begin(const StreamId& stream) {
  PC_RETURN_IF_ERROR(Complete());
  if (!wire_is_idle()) {
    return FailedPrecondition("the last stream has " + std::to_string(launched_ - completed_) +
                              " operations that are not complete");
  }
  PC_RETURN_IF_ERROR(control_->Begin(stream));
  base_ = launched_;
  progress_.launched = 0;
  progress_.completed = 0;
  progress_.bytes = 0;
  return OkStatus();
}

Status WiredCollective::Launch(Operation operation) {
  if (is_root()) {
    PC_ASSIGN_OR_RETURN(operation.note, wire_->NoteFor(operation));
  } else {
    operation.note = control_->NextNote();
  }
  // The gate is checked now and leaves with the next Poll: by then the wire has the operation.
  Operation words = operation;
  PC_RETURN_IF_ERROR(control_->Launch(std::move(words)));
  PC_RETURN_IF_ERROR(wire_->Launch(operation));
  ++launched_;
  bytes_.push_back(operation.bytes());
  progress_.launched.fetch_add(1);
  last_change_ = Now();
  return OkStatus();
}

// Operations that are complete here, over all streams.
StatusOr<uint64_t> WiredCollective::CountComplete() {
  if (!wire_->is_one_sided() || !is_root()) return wire_->Completed();
  // The members say so.
  uint64_t completed = completed_;
  while (completed < launched_) {
    PC_ASSIGN_OR_RETURN(const bool done, control_->Done(Sequence(completed - base_)));
    if (!done) break;
    ++completed;
  }
  return completed;
}

Status WiredCollective::Complete() {
  if (wire_is_idle()) return OkStatus();
  PC_ASSIGN_OR_RETURN(const uint64_t completed, CountComplete());
  for (; completed_ < completed; ++completed_) {
    if (wire_->is_one_sided() && !is_root() && !reads_in_place()) {
      PC_RETURN_IF_ERROR(control_->Release(Sequence(completed_ - base_)));
    }
    progress_.bytes.fetch_add(bytes_.front());
    progress_.completed.fetch_add(1);
    bytes_.pop_front();
    last_change_ = Now();
  }
  return OkStatus();
}

StatusOr<bool> WiredCollective::Done(Sequence sequence) {
  PC_RETURN_IF_ERROR(Complete());
  return base_ + sequence.value < completed_;
}

Status WiredCollective::Poll(Duration max_wait) {
  if (up_ && wire_is_idle()) return control_->Poll(max_wait);
  PC_RETURN_IF_ERROR(control_->Poll(Duration::zero()));
  const uint64_t before = completed_;
  PC_RETURN_IF_ERROR(Complete());
  if (completed_ != before || max_wait <= Duration::zero()) return OkStatus();
  if (up_ && Now() - last_change_ < kSpin) {
    std::this_thread::yield();
    return OkStatus();
  }
  return control_->Poll(std::min(max_wait, kPause));
}

void WiredCollective::BeginAbort(std::string_view reason) {
  wire_->BeginAbort();
  control_->BeginAbort(reason);
}

// Both, whatever becomes of the first: the wire is what touches memory.
Status WiredCollective::Abort(std::string_view reason) {
  wire_->BeginAbort();
  const Status told = control_->Abort(reason);
  const Status stopped = wire_->Abort();
  return stopped.ok() ? told : stopped;
}

// What is on the wire is on all ranks or on none: nobody can be told from here.
std::vector<uint32_t> WiredCollective::Late() {
  return up_ && wire_is_idle() ? control_->Late() : std::vector<uint32_t>();
}

std::string WiredCollective::WaitingFor() {
  if (!up_) return "all ranks to connect";
  if (!wire_is_idle()) {
    return "step " + std::to_string(completed_ - base_) + " to be on all ranks";
  }
  return control_->WaitingFor();
}

}  // namespace

std::unique_ptr<Collective> MakeWiredCollective(const JoinOptions& options,
                                                std::unique_ptr<Collective> control,
                                                std::unique_ptr<Wire> wire) {
  return std::make_unique<WiredCollective>(options, std::move(control), std::move(wire));
}

}  // namespace packcast
