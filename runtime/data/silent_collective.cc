#include "runtime/data/silent_collective.h"

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "runtime/data/collective_base.h"

namespace packcast {
namespace {

std::string StepName(uint64_t step) { return "step " + std::to_string(step); }

Status NoSeals() {
  return InvalidArgument(
      "no checksum can reach ranks that do not speak packcast: BroadcastOptions::hash must be off");
}

// The words of a WiredCollective that nobody hears and nobody answers: only this rank's own order
// is checked. An operation is complete here as soon as it is launched.
class NoWords final : public CollectiveBase {
 public:
  explicit NoWords(const JoinOptions& options) : CollectiveBase(options) {}

  StatusOr<bool> Joined() override { return True(); }
  Status Begin(const StreamId& stream) override;
  Status Grant(Sequence sequence) override;
  StatusOr<bool> Ready(Sequence sequence) override;
  Status Launch(Operation operation) override;
  StatusOr<bool> Done(Sequence sequence) override;
  Status Seal(Sequence, const StepSeal&) override { return NoSeals(); }
  StatusOr<std::optional<StepSeal>> SealOf(Sequence) override { return NoSeals(); }
  Status End(uint64_t steps) override;
  StatusOr<std::optional<uint64_t>> EndOf() override;
  Status Finish() override;
  StatusOr<bool> Finished() override;
  StatusOr<bool> Flushed() override { return True(); }
  Status Poll(Duration max_wait) override;
  void Wake() override;
  Status Abort(std::string_view reason) override;
  void BeginAbort(std::string_view reason) override { (void)Abort(reason); }
  std::string WaitingFor() override;
  std::optional<uint32_t> culprit() const override { return std::nullopt; }
  const CollectiveProgress& progress() const override { return progress_; }

 private:
  Status Check();
  StatusOr<bool> True() {
    PC_RETURN_IF_ERROR(Check());
    return true;
  }
  bool IsReady(uint64_t step) const;
  bool AllLaunched() const { return end_ && launched_ == *end_; }

  // The stream's, of the thread that makes the calls.
  bool begun_ = false;
  uint64_t granted_ = 0;  // at a member
  uint64_t launched_ = 0;
  std::optional<uint64_t> end_;
  bool finished_ = false;  // a member has said so
  CollectiveProgress progress_;

  std::mutex mutex_;
  std::condition_variable woken_;
  bool wake_ = false;
  Status error_;  // once aborted
};

Status NoWords::Check() {
  std::lock_guard lock(mutex_);
  return error_;
}

Status NoWords::Begin(const StreamId&) {
  PC_RETURN_IF_ERROR(Check());
  const bool is_over = AllLaunched() && (is_root() || finished_);
  if (launched_ > 0 && !is_over) {
    return FailedPrecondition("the previous stream is not finished at " + Describe(rank()) +
                              ": it has " + std::to_string(launched_) + " steps" +
                              (end_ ? " of " + std::to_string(*end_) : ", and no end"));
  }
  begun_ = true;
  granted_ = 0;
  launched_ = 0;
  end_.reset();
  finished_ = false;
  progress_.launched = 0;
  progress_.completed = 0;
  progress_.bytes = 0;
  return OkStatus();
}

Status NoWords::Grant(Sequence sequence) {
  PC_RETURN_IF_ERROR(Check());
  if (is_root()) return FailedPrecondition("the root grants nothing");
  if (!begun_ || sequence.value != granted_) {
    return FailedPrecondition(StepName(sequence.value) + " is granted out of order: the next is " +
                              std::to_string(granted_));
  }
  if (granted_ - launched_ >= kStepsInFlightMax) {
    return ResourceExhausted("more than " + std::to_string(kStepsInFlightMax) +
                             " steps granted and not complete");
  }
  ++granted_;
  return OkStatus();
}

bool NoWords::IsReady(uint64_t step) const {
  if (!begun_ || step < launched_ || (end_ && step >= *end_)) return false;
  return is_root() || step < granted_;
}

StatusOr<bool> NoWords::Ready(Sequence sequence) {
  PC_RETURN_IF_ERROR(Check());
  return IsReady(sequence.value);
}

Status NoWords::Launch(Operation operation) {
  PC_RETURN_IF_ERROR(Check());
  const uint64_t step = operation.sequence.value;
  if (step != launched_) {
    return FailedPrecondition(StepName(step) + " is out of order: the next is " +
                              std::to_string(launched_));
  }
  if (!IsReady(step)) {
    return FailedPrecondition(StepName(step) + " is beyond what was " +
                              (end_ && step >= *end_ ? "ended" : "granted"));
  }
  if (operation.bytes() == 0) return InvalidArgument(StepName(step) + " is empty");
  if (operation.sealed) return NoSeals();
  ++launched_;
  progress_.launched.fetch_add(1);
  progress_.completed.fetch_add(1);
  progress_.bytes.fetch_add(operation.bytes());
  return OkStatus();
}

StatusOr<bool> NoWords::Done(Sequence sequence) {
  PC_RETURN_IF_ERROR(Check());
  return sequence.value < launched_;
}

Status NoWords::End(uint64_t steps) {
  PC_RETURN_IF_ERROR(Check());
  if (!begun_ || end_ || steps < launched_ || (is_root() && steps > launched_)) {
    return FailedPrecondition("a stream of " + std::to_string(launched_) +
                              " launched steps cannot end with " + std::to_string(steps));
  }
  end_ = steps;
  return OkStatus();
}

StatusOr<std::optional<uint64_t>> NoWords::EndOf() {
  PC_RETURN_IF_ERROR(Check());
  return end_;
}

Status NoWords::Finish() {
  PC_RETURN_IF_ERROR(Check());
  if (!AllLaunched()) {
    return FailedPrecondition("the stream is not complete at " + Describe(rank()));
  }
  finished_ = true;
  return OkStatus();
}

StatusOr<bool> NoWords::Finished() {
  PC_RETURN_IF_ERROR(Check());
  return end_.has_value();
}

Status NoWords::Poll(Duration max_wait) {
  std::unique_lock lock(mutex_);
  woken_.wait_for(lock, ClampedWait(max_wait), [this] { return wake_ || !error_.ok(); });
  // A look in passing, without a wait, leaves the wake to the next one.
  if (max_wait > Duration::zero()) wake_ = false;
  return error_;
}

void NoWords::Wake() {
  std::lock_guard lock(mutex_);
  wake_ = true;
  woken_.notify_all();
}

Status NoWords::Abort(std::string_view reason) {
  std::lock_guard lock(mutex_);
  if (error_.ok()) error_ = Aborted("this rank aborted the collective: " + std::string(reason));
  woken_.notify_all();
  return OkStatus();
}

std::string NoWords::WaitingFor() {
  const bool needs_end = begun_ && !is_root() && !end_;
  return needs_end ? "End: a member says by itself how many steps there are" : "nothing";
}

}  // namespace

std::unique_ptr<Collective> MakeSilentCollective(const JoinOptions& options,
                                                 std::unique_ptr<Wire> wire) {
  return MakeWiredCollective(options, std::make_unique<NoWords>(options), std::move(wire));
}

}  // namespace packcast
