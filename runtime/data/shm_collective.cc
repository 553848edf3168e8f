#include "runtime/data/shm_collective.h"

#include <atomic>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "protocol/limits.h"
#include "runtime/data/collective_base.h"

namespace packcast {
namespace {

// All words are the control's. It also completes operations: at a member when it is launched, for
// its bytes are there by then, at the root when all members have released it.
class ShmCollective : public CollectiveBase {
 public:
  bool reads_in_place() const final { return true; }
  StatusOr<bool> Joined() final { return Checked(&Collective::Joined); }
  Status Grant(Sequence sequence) final { return Checked(&Collective::Grant, sequence); }
  StatusOr<bool> Ready(Sequence sequence) final { return Checked(&Collective::Ready, sequence); }
  StatusOr<bool> Done(Sequence sequence) final { return Checked(&Collective::Done, sequence); }
  Status Seal(Sequence sequence, const StepSeal& seal) final {
    return Checked(&Collective::Seal, sequence, seal);
  }
  StatusOr<std::optional<StepSeal>> SealOf(Sequence sequence) final {
    return Checked(&Collective::SealOf, sequence);
  }
  Status End(uint64_t steps) final { return Checked(&Collective::End, steps); }
  StatusOr<std::optional<uint64_t>> EndOf() final { return Checked(&Collective::EndOf); }
  Status Finish() final { return Checked(&Collective::Finish); }
  StatusOr<bool> Finished() final { return Checked(&Collective::Finished); }
  StatusOr<bool> Flushed() final { return Checked(&Collective::Flushed); }
  Status Poll(Duration max_wait) final { return Checked(&Collective::Poll, max_wait); }
  void Wake() final { control_->Wake(); }
  // Nothing here touches memory by itself, so there is nothing to stop but the words. What a member
  // has mapped stays until it is destroyed: its owner may be reading it.
  Status Abort(std::string_view reason) final { return control_->Abort(reason); }
  std::string WaitingFor() final { return control_->WaitingFor(); }
  std::vector<uint32_t> Late() final { return control_->Late(); }
  void Accuse(uint32_t rank) final { control_->Accuse(rank); }
  std::optional<uint32_t> culprit() const final {
    return blames_root_ ? std::optional(root()) : control_->culprit();
  }
  const CollectiveProgress& progress() const final { return control_->progress(); }

 protected:
  ShmCollective(const JoinOptions& options, std::unique_ptr<Collective> control)
      : CollectiveBase(options), control_(std::move(control)) {}

  // A call of the control, after our own error.
  template <class Result, class... Parameters, class... Arguments>
  Result Checked(Result (Collective::*call)(Parameters...), Arguments&&... arguments) {
    if (!error_.ok()) return error_;
    return (control_.get()->*call)(std::forward<Arguments>(arguments)...);
  }

  const std::unique_ptr<Collective> control_;
  Status error_;
  std::atomic<bool> blames_root_{false};
  uint64_t launches_ = 0;  // over all streams
};

class ShmRoot final : public ShmCollective {
 public:
  ShmRoot(const JoinOptions& options, std::unique_ptr<Collective> control, const ShmArena* arena,
          std::unique_ptr<ShmBoard> board)
      : ShmCollective(options, std::move(control)), arena_(arena), board_(std::move(board)) {}

  Status Begin(const StreamId& stream) override { return control_->Begin(stream); }

  Status Launch(Operation operation) override {
    std::optional<ShmPlace> place;
    if (operation.spans.size() == 1) {
      place = arena_->Find(operation.spans[0].data, operation.spans[0].bytes);
    }
    if (!place) {
      return InvalidArgument(
          "step " + std::to_string(operation.sequence.value) +
          " is not in one buffer of shared memory: over \"shm\" the ring comes " +
          "from Transport::allocator(), and no rows travel direct");
    }
    // First, so that who hears of the launch finds it.
    board_->Post(launches_, *place);
    PC_RETURN_IF_ERROR(control_->Launch(std::move(operation)));
    ++launches_;
    return OkStatus();
  }

 private:
  const ShmArena* const arena_;
  const std::unique_ptr<ShmBoard> board_;
};

class ShmMember final : public ShmCollective {
 public:
  ShmMember(const JoinOptions& options, std::unique_ptr<Collective> control, uint64_t root_pid,
            ShmBoardView board)
      : ShmCollective(options, std::move(control)), root_pid_(root_pid), board_(std::move(board)) {}

  Status Begin(const StreamId& stream) override;
  Status Launch(Operation operation) override;
  StatusOr<std::span<const std::byte>> Landed(Sequence sequence) override;
  Status Release(Sequence sequence) override;

 private:
  struct Buffer {
    uint64_t inode = 0;
    std::shared_ptr<const ShmView> view;
    bool was_used = false;  // in this stream
  };
  struct Landing {
    std::shared_ptr<const ShmView> view;
    std::span<const std::byte> bytes;
  };
  StatusOr<std::shared_ptr<const ShmView>> Map(const ShmPlace& place);
  Status Fail(Status status);

  const uint64_t root_pid_;
  const ShmBoardView board_;
  // By the root's descriptor: under the number of a freed buffer comes the next that is made.
  std::map<uint64_t, Buffer> buffers_;
  std::deque<Landing> landed_;  // launched and not released, from released_
  uint64_t released_ = 0;
};

Status ShmMember::Fail(Status status) {
  error_ = status.WithContext(Describe(rank()) + ", reading from " + Describe(root()));
  return error_;
}

Status ShmMember::Begin(const StreamId& stream) {
  PC_RETURN_IF_ERROR(Checked(&Collective::Begin, stream));
  landed_.clear();
  released_ = 0;
  // Mapped buffers stay for the next stream, but not those of a ring that the root has dropped.
  for (auto at = buffers_.begin(); at != buffers_.end();) {
    const bool was_used = std::exchange(at->second.was_used, false);
    at = was_used ? std::next(at) : buffers_.erase(at);
  }
  return OkStatus();
}

Status ShmMember::Launch(Operation operation) {
  for (const Span& span : operation.spans) {
    if (span.data == nullptr) continue;
    return InvalidArgument("step " + std::to_string(operation.sequence.value) + " has memory of " +
                           Describe(rank()) +
                           ", but \"shm\" reads in place, and offers no direct " + "rows");
  }
  const uint64_t bytes = operation.bytes();
  PC_RETURN_IF_ERROR(Checked(&Collective::Launch, std::move(operation)));
  const StatusOr<ShmPlace> place = board_.PlaceOf(launches_, bytes);
  if (!place.ok()) {
    blames_root_ = true;
    return Fail(place.status());
  }
  StatusOr<std::shared_ptr<const ShmView>> view = Map(*place);
  if (!view.ok()) return Fail(view.status());
  const std::span<const std::byte> landed((*view)->data() + place->offset, bytes);
  landed_.push_back({std::move(view).value(), landed});
  ++launches_;
  return OkStatus();
}

StatusOr<std::shared_ptr<const ShmView>> ShmMember::Map(const ShmPlace& place) {
  // No ring has more; steps under way keep theirs.
  if (buffers_.size() > limits::kBufferCountMax) buffers_.clear();
  Buffer& buffer = buffers_[place.fd];
  buffer.was_used = true;
  if (buffer.view == nullptr || buffer.inode != place.inode ||
      buffer.view->bytes() != place.bytes) {
    PC_ASSIGN_OR_RETURN(buffer.view, ShmView::Open(root_pid_, place.fd, place.inode, place.bytes));
    buffer.inode = place.inode;
  }
  return buffer.view;
}

StatusOr<std::span<const std::byte>> ShmMember::Landed(Sequence sequence) {
  PC_RETURN_IF_ERROR(error_);
  if (sequence.value >= released_ && sequence.value - released_ < landed_.size()) {
    return landed_[sequence.value - released_].bytes;
  }
  return FailedPrecondition("step " + std::to_string(sequence.value) +
                            " is not launched, or was released");
}

Status ShmMember::Release(Sequence sequence) {
  PC_RETURN_IF_ERROR(Checked(&Collective::Release, sequence));
  landed_.pop_front();
  ++released_;
  return OkStatus();
}

}  // namespace

std::unique_ptr<Collective> MakeShmRoot(const JoinOptions& options,
                                        std::unique_ptr<Collective> control, const ShmArena* arena,
                                        std::unique_ptr<ShmBoard> board) {
  return std::make_unique<ShmRoot>(options, std::move(control), arena, std::move(board));
}

std::unique_ptr<Collective> MakeShmMember(const JoinOptions& options,
                                          std::unique_ptr<Collective> control, uint64_t root_pid,
                                          ShmBoardView board) {
  return std::make_unique<ShmMember>(options, std::move(control), root_pid, std::move(board));
}

}  // namespace packcast
