#include "runtime/data/local_collective.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "runtime/base/clock.h"
#include "runtime/data/collective_base.h"
#include "runtime/data/local_hub.h"

namespace packcast {
namespace {

using local::Hub;
using local::MemberOperation;
using local::RankEnd;

// How much a member copies in one Poll, and so how long an Abort waits: about 0.1 ms.
constexpr uint64_t kCopyBytes = uint64_t{1} << 20;

class LocalCollective : public CollectiveBase {
 public:
  LocalCollective(const JoinOptions& options, std::shared_ptr<Hub> hub)
      : CollectiveBase(options), hub_(std::move(hub)), end_(*hub_->ends[options.rank]) {}

  ~LocalCollective() override {
    {
      std::lock_guard lock(hub_->mutex);
      const bool quiet = is_root() ? hub_->root_ledger.IsQuiet() : end_.ledger.IsQuiet();
      end_.left = true;
      hub_->Changed();
      if (quiet) return;
    }
    (void)Abort("its collective was destroyed");
  }

  StatusOr<bool> Joined() override;
  Status Begin(const StreamId& stream) override;
  Status Grant(Sequence sequence) override;
  StatusOr<bool> Ready(Sequence sequence) override;
  Status Launch(Operation operation) override;
  StatusOr<bool> Done(Sequence sequence) override;
  Status Seal(Sequence sequence, const StepSeal& seal) override;
  StatusOr<std::optional<StepSeal>> SealOf(Sequence sequence) override;
  Status End(uint64_t steps) override;
  StatusOr<std::optional<uint64_t>> EndOf() override;
  Status Finish() override;
  StatusOr<bool> Finished() override;
  StatusOr<bool> Flushed() override;
  Status Poll(Duration max_wait) override;
  void Wake() override;
  Status Abort(std::string_view reason) override;
  std::string WaitingFor() override;
  std::vector<uint32_t> Late() override;
  void Accuse(uint32_t rank) override;
  std::optional<uint32_t> culprit() const override;
  const CollectiveProgress& progress() const override { return end_.progress; }

 private:
  using Lock = std::unique_lock<std::mutex>;

  // The sticky error, under the lock.
  Status Check() {
    if (aborted_) return Aborted("this rank aborted the collective: " + abort_reason_);
    if (!hub_->broken.ok()) return hub_->broken;
    return error_;
  }
  Status Fail(Status status) {
    if (error_.ok()) error_ = status;
    return status;
  }
  Status CheckLeft();
  Status LaunchRoot(Operation operation);
  Status LaunchMember(Operation operation);
  void CopySome(Lock* lock);
  void MemberDone();
  std::string WaitingForLocked();
  bool InStream(const RankEnd& member) const {
    const RankEnd& root_end = *hub_->ends[root()];
    return member.stream && root_end.stream &&
           StreamTag(*member.stream) == StreamTag(*root_end.stream);
  }

  const std::shared_ptr<Hub> hub_;
  RankEnd& end_;
  Status error_;
  std::optional<uint32_t> culprit_;
  bool aborted_ = false;
  std::string abort_reason_;
};

StatusOr<bool> LocalCollective::Joined() {
  Lock lock(hub_->mutex);
  PC_RETURN_IF_ERROR(Check());
  std::vector<uint32_t> missing;
  for (uint32_t rank = 0; rank < size(); ++rank) {
    if (!hub_->ends[rank]->joined) missing.push_back(rank);
  }
  if (missing.empty()) return true;
  if (Now() < options().deadline) return false;
  culprit_ = missing.front();
  return Fail(DeadlineExceeded("these have not joined: " + DescribeAll(missing)));
}

Status LocalCollective::Begin(const StreamId& stream) {
  Lock lock(hub_->mutex);
  PC_RETURN_IF_ERROR(Check());
  PC_RETURN_IF_ERROR(is_root() ? hub_->root_ledger.Begin() : end_.ledger.Begin());
  end_.stream = stream;
  end_.progress.launched = 0;
  end_.progress.completed = 0;
  end_.progress.bytes = 0;
  for (uint32_t rank = 0; rank < size(); ++rank) {
    if (rank == root() || (!is_root() && rank != this->rank())) continue;
    if (!InStream(*hub_->ends[rank])) continue;
    const Digest& theirs = hub_->ends[rank]->stream->plan_digest;
    const Digest& roots = hub_->ends[root()]->stream->plan_digest;
    if (theirs != roots) {
      hub_->broken = PlansDiffer(rank, theirs, roots);
      hub_->Changed();
      return hub_->broken;
    }
    PC_RETURN_IF_ERROR(hub_->root_ledger.OnGranted(rank, hub_->ends[rank]->ledger.granted()));
  }
  hub_->Changed();
  return OkStatus();
}

Status LocalCollective::Grant(Sequence sequence) {
  Lock lock(hub_->mutex);
  PC_RETURN_IF_ERROR(Check());
  PC_RETURN_IF_ERROR(end_.ledger.CheckGrant(sequence));
  end_.ledger.Granted();
  if (InStream(end_)) {
    PC_RETURN_IF_ERROR(hub_->root_ledger.OnGranted(rank(), end_.ledger.granted()));
  }
  hub_->Changed();
  return OkStatus();
}

StatusOr<bool> LocalCollective::Ready(Sequence sequence) {
  Lock lock(hub_->mutex);
  PC_RETURN_IF_ERROR(Check());
  return is_root() ? hub_->root_ledger.Ready(sequence) : end_.ledger.Ready(sequence);
}

Status LocalCollective::Launch(Operation operation) {
  Lock lock(hub_->mutex);
  PC_RETURN_IF_ERROR(Check());
  PC_RETURN_IF_ERROR(is_root() ? LaunchRoot(std::move(operation))
                               : LaunchMember(std::move(operation)));
  end_.progress.launched.fetch_add(1);
  hub_->Changed();
  return OkStatus();
}

Status LocalCollective::LaunchRoot(Operation operation) {
  PC_RETURN_IF_ERROR(hub_->root_ledger.CheckLaunch(operation));
  const Gate gate{operation.sequence, operation.bytes(), operation.first_region, operation.regions,
                  operation.sealed};
  for (uint32_t rank = 0; rank < size(); ++rank) {
    if (rank == root()) continue;
    const Status status = hub_->ends[rank]->ledger.OnGate(gate);
    if (!status.ok()) return Fail(status);
  }
  hub_->root_ledger.Launched();
  hub_->operations.push_back({std::move(operation), size() - 1});
  MemberDone();  // a generation of one rank
  return OkStatus();
}

Status LocalCollective::LaunchMember(Operation operation) {
  bool fatal = false;
  const Status status = end_.ledger.CheckLaunch(operation, &fatal);
  if (!status.ok()) return fatal ? Fail(status) : status;
  end_.ledger.Launched();
  const uint64_t index = operation.sequence.value - hub_->root_ledger.completed();
  const SpanCursor from(hub_->operations[index].operation.spans);
  const SpanCursor to(operation.spans);
  end_.operations.push_back({std::move(operation), from, to});
  return OkStatus();
}

StatusOr<bool> LocalCollective::Done(Sequence sequence) {
  Lock lock(hub_->mutex);
  PC_RETURN_IF_ERROR(Check());
  return sequence.value < (is_root() ? hub_->root_ledger.completed() : end_.ledger.completed());
}

Status LocalCollective::Seal(Sequence sequence, const StepSeal& seal) {
  Lock lock(hub_->mutex);
  PC_RETURN_IF_ERROR(Check());
  PC_RETURN_IF_ERROR(hub_->root_ledger.CheckSeal(sequence));
  for (uint32_t rank = 0; rank < size(); ++rank) {
    if (rank == root()) continue;
    const Status status = hub_->ends[rank]->ledger.OnSeal(sequence, seal);
    if (!status.ok()) return Fail(status);
  }
  hub_->Changed();
  return OkStatus();
}

StatusOr<std::optional<StepSeal>> LocalCollective::SealOf(Sequence sequence) {
  Lock lock(hub_->mutex);
  PC_RETURN_IF_ERROR(Check());
  return end_.ledger.SealOf(sequence);
}

Status LocalCollective::End(uint64_t steps) {
  Lock lock(hub_->mutex);
  PC_RETURN_IF_ERROR(Check());
  // Members that have not begun the stream yet hear of its end when they do: see EndOf.
  PC_RETURN_IF_ERROR(hub_->root_ledger.End(steps));
  for (uint32_t rank = 0; rank < size(); ++rank) {
    if (rank == root() || !InStream(*hub_->ends[rank])) continue;
    const Status status = hub_->ends[rank]->ledger.OnEnd(steps);
    if (!status.ok()) return Fail(status);
  }
  hub_->Changed();
  return OkStatus();
}

StatusOr<std::optional<uint64_t>> LocalCollective::EndOf() {
  Lock lock(hub_->mutex);
  PC_RETURN_IF_ERROR(Check());
  // A stream of no steps needs no grants, so the root may have ended it before we began.
  if (!end_.ledger.end() && InStream(end_) && hub_->root_ledger.ended()) {
    const Status status = end_.ledger.OnEnd(hub_->root_ledger.launched());
    if (!status.ok()) return Fail(status);
  }
  return end_.ledger.end();
}

Status LocalCollective::Finish() {
  Lock lock(hub_->mutex);
  PC_RETURN_IF_ERROR(Check());
  PC_RETURN_IF_ERROR(end_.ledger.Finish());
  if (InStream(end_)) hub_->root_ledger.OnFinished(rank());
  hub_->Changed();
  return OkStatus();
}

StatusOr<bool> LocalCollective::Finished() {
  Lock lock(hub_->mutex);
  PC_RETURN_IF_ERROR(Check());
  return hub_->root_ledger.AllFinished();
}

// What is said here is heard at once.
StatusOr<bool> LocalCollective::Flushed() {
  Lock lock(hub_->mutex);
  PC_RETURN_IF_ERROR(Check());
  return true;
}

std::optional<uint32_t> LocalCollective::culprit() const {
  Lock lock(hub_->mutex);
  return culprit_;
}

Status LocalCollective::CheckLeft() {
  for (uint32_t rank = 0; rank < size(); ++rank) {
    if (rank == this->rank() || !hub_->ends[rank]->left) continue;
    const bool needed = is_root() ? hub_->root_ledger.begun() && !hub_->root_ledger.finished(rank)
                                  : rank == root() && end_.stream && !end_.ledger.end();
    if (!needed) continue;
    culprit_ = rank;
    return Fail(PeerDied(Describe(rank) + " left; waited for " + WaitingForLocked()));
  }
  return OkStatus();
}

Status LocalCollective::Poll(Duration max_wait) {
  Lock lock(hub_->mutex);
  PC_RETURN_IF_ERROR(Check());
  if (!end_.operations.empty()) {
    CopySome(&lock);
    return Check();
  }
  PC_RETURN_IF_ERROR(CheckLeft());
  if (max_wait > Duration::zero()) {
    hub_->changed.wait_for(lock, max_wait,
                           [&] { return end_.woken || hub_->changes != end_.seen; });
  }
  end_.woken = false;
  end_.seen = hub_->changes;
  return Check();
}

// Copies at most kCopyBytes of the oldest operation. The root cannot take its memory back in the
// meantime: the operation is not complete, and Abort waits for `copying`.
void LocalCollective::CopySome(Lock* lock) {
  MemberOperation& operation = end_.operations.front();
  end_.copying = true;
  lock->unlock();
  uint64_t copied = 0;
  while (copied < kCopyBytes && !operation.to.at_end()) {
    const uint64_t part =
        std::min({operation.from.room(), operation.to.room(), kCopyBytes - copied});
    std::memcpy(operation.to.data(), operation.from.data(), part);
    operation.from.Advance(part);
    operation.to.Advance(part);
    copied += part;
  }
  lock->lock();
  end_.copying = false;
  end_.progress.bytes.fetch_add(copied);
  hub_->Changed();
  if (!operation.to.at_end() || aborted_) return;
  end_.ledger.Completed();
  end_.progress.completed.fetch_add(1);
  const uint64_t index = operation.operation.sequence.value - hub_->root_ledger.completed();
  --hub_->operations[index].members_left;
  end_.operations.pop_front();
  MemberDone();
}

// Completes the root's operations that all members have, in order.
void LocalCollective::MemberDone() {
  CollectiveProgress& progress = hub_->ends[root()]->progress;
  while (!hub_->operations.empty() && hub_->operations.front().members_left == 0) {
    progress.bytes.fetch_add(hub_->operations.front().operation.bytes());
    progress.completed.fetch_add(1);
    hub_->operations.pop_front();
    hub_->root_ledger.Completed();
  }
}

void LocalCollective::Wake() {
  Lock lock(hub_->mutex);
  end_.woken = true;
  hub_->changed.notify_all();
}

Status LocalCollective::Abort(std::string_view reason) {
  Lock lock(hub_->mutex);
  if (!aborted_) {
    aborted_ = true;
    abort_reason_ = std::string(reason);
    if (hub_->broken.ok()) {
      hub_->broken = Aborted(Describe(rank()) + " aborted the collective: " + abort_reason_);
    }
    hub_->Changed();
  }
  // A root's memory is read by every member's thread, a member's is written by its own.
  hub_->changed.wait(lock, [this] { return is_root() ? !hub_->AnyoneCopies() : !end_.copying; });
  return OkStatus();
}

std::vector<uint32_t> LocalCollective::Late() {
  Lock lock(hub_->mutex);
  return is_root() && hub_->operations.empty() ? hub_->root_ledger.Laggards()
                                               : std::vector<uint32_t>();
}

void LocalCollective::Accuse(uint32_t rank) {
  Lock lock(hub_->mutex);
  if (!culprit_) culprit_ = rank;
}

std::string LocalCollective::WaitingFor() {
  Lock lock(hub_->mutex);
  return WaitingForLocked();
}

std::string LocalCollective::WaitingForLocked() {
  if (!is_root()) {
    if (!end_.operations.empty()) {
      return "bytes of step " + std::to_string(end_.ledger.completed()) + " from " +
             Describe(root());
    }
    return WaitingForRoot(end_.ledger);
  }
  if (!hub_->operations.empty()) {
    return "step " + std::to_string(hub_->root_ledger.completed()) + " to be received";
  }
  return WaitingForMembers(hub_->root_ledger);
}

class LocalTransport : public Transport {
 public:
  std::string_view kind() const override { return "local"; }

  StatusOr<Rendezvous> MakeRendezvous(GenerationId generation) override {
    std::lock_guard lock(mutex_);
    if (!hubs_.emplace(generation, nullptr).second) {
      return AlreadyExists("generation " + std::to_string(generation.value) +
                           " has a rendezvous already");
    }
    return Rendezvous{"local", Bytes()};
  }

  StatusOr<std::unique_ptr<Collective>> Join(const JoinOptions& options) override {
    PC_RETURN_IF_ERROR(CheckJoin(options, kind()));
    std::lock_guard lock(mutex_);
    const auto found = hubs_.find(options.generation);
    if (found == hubs_.end()) {
      return NotFound("generation " + std::to_string(options.generation.value) +
                      " has no rendezvous here");
    }
    std::shared_ptr<Hub>& hub = found->second;
    if (hub == nullptr) hub = MakeHub(options);
    std::lock_guard hub_lock(hub->mutex);
    if (hub->size != options.size || hub->root != options.root) {
      return InvalidArgument("size and root differ from those of other ranks");
    }
    if (hub->ends[options.rank]->joined) {
      return AlreadyExists("rank " + std::to_string(options.rank) + " has joined already");
    }
    hub->ends[options.rank]->joined = true;
    hub->Changed();
    return std::unique_ptr<Collective>(std::make_unique<LocalCollective>(options, hub));
  }

  void Forget(GenerationId generation) override {
    std::lock_guard lock(mutex_);
    hubs_.erase(generation);
  }

 private:
  static std::shared_ptr<Hub> MakeHub(const JoinOptions& options) {
    auto hub = std::make_shared<Hub>(options.size, options.root);
    for (uint32_t rank = 0; rank < options.size; ++rank) {
      hub->ends.push_back(std::make_unique<RankEnd>("rank " + std::to_string(rank)));
    }
    return hub;
  }

  std::mutex mutex_;
  std::map<GenerationId, std::shared_ptr<Hub>> hubs_;
};

}  // namespace

std::unique_ptr<Transport> MakeLocalTransport() { return std::make_unique<LocalTransport>(); }

}  // namespace packcast
