#include "runtime/data/chain_collective.h"

#include <algorithm>
#include <deque>
#include <string>
#include <thread>
#include <utility>

#include "runtime/base/clock.h"
#include "runtime/data/collective_base.h"

namespace packcast {
namespace {

// A relay hears from two sides and can sleep on one: it looks at both, without a pause for as long
// as a step takes, then more rarely.
constexpr Duration kSpin = Milliseconds(20);
constexpr Duration kPause = Milliseconds(1);

class ChainCollective final : public CollectiveBase {
 public:
  ChainCollective(const JoinOptions& options, std::unique_ptr<Collective> up,
                  std::unique_ptr<Collective> down)
      : CollectiveBase(options), up_(std::move(up)), down_(std::move(down)), last_change_(Now()) {}

  StatusOr<bool> Joined() override;
  Status Begin(const StreamId& stream) override;
  Status Grant(Sequence sequence) override;
  StatusOr<bool> Ready(Sequence sequence) override;
  Status Launch(Operation operation) override;
  bool awaits_ready() const override { return Source()->awaits_ready(); }
  StatusOr<bool> Done(Sequence sequence) override;
  StatusOr<bool> Spent(Sequence sequence) override;
  Status Seal(Sequence sequence, const StepSeal& seal) override;
  StatusOr<std::optional<StepSeal>> SealOf(Sequence sequence) override;
  Status End(uint64_t steps) override;
  StatusOr<std::optional<uint64_t>> EndOf() override;
  Status Finish() override;
  StatusOr<bool> Finished() override;
  StatusOr<bool> Flushed() override;
  Status Poll(Duration max_wait) override;
  void Wake() override { Source()->Wake(); }
  Status Abort(std::string_view reason) override;
  void BeginAbort(std::string_view reason) override;
  std::string WaitingFor() override;
  std::vector<uint32_t> Late() override;
  void Accuse(uint32_t) override { down_->Accuse(1); }
  std::optional<uint32_t> culprit() const override;
  const CollectiveProgress& progress() const override { return Source()->progress(); }

 private:
  // The link that this rank gets its steps from; the root's own.
  Collective* Source() const { return up_ != nullptr ? up_.get() : down_.get(); }
  bool is_relay() const { return up_ != nullptr && down_ != nullptr; }
  // Whether what comes next is up to the next rank, not to the one before this.
  bool WaitsBelow();
  static Status NotRoot() { return FailedPrecondition("only the root does this"); }
  static Status NotMember() { return FailedPrecondition("only a member does this"); }
  Status Keep(Status status);
  Status Relay();
  Status RelaySteps();
  Status RelaySeals();
  Status RelayEnd();

  const std::unique_ptr<Collective> up_;
  const std::unique_ptr<Collective> down_;
  Status error_;  // of a link, found while passing on
  Time last_change_;

  // A relay's, of the present stream.
  std::deque<Operation> arriving_;  // launched here and not below, from relayed_
  uint64_t relayed_ = 0;
  std::deque<bool> sealed_;  // from seals_relayed_
  uint64_t seals_relayed_ = 0;
  bool ended_ = false;
  bool finishing_ = false;  // asked for here
  bool finished_ = false;   // said to the feeder
};

Status ChainCollective::Keep(Status status) {
  if (error_.ok()) error_ = std::move(status);
  return error_;
}

StatusOr<bool> ChainCollective::Joined() {
  bool joined = true;
  for (Collective* link : {up_.get(), down_.get()}) {
    if (link == nullptr) continue;
    PC_ASSIGN_OR_RETURN(const bool one, link->Joined());
    joined = joined && one;
  }
  return joined;
}

Status ChainCollective::Begin(const StreamId& stream) {
  PC_RETURN_IF_ERROR(error_);
  relayed_ = seals_relayed_ = 0;
  arriving_.clear();
  sealed_.clear();
  ended_ = finishing_ = finished_ = false;
  last_change_ = Now();
  if (down_ != nullptr) PC_RETURN_IF_ERROR(down_->Begin(stream));
  return up_ != nullptr ? up_->Begin(stream) : OkStatus();
}

Status ChainCollective::Grant(Sequence sequence) {
  if (up_ == nullptr) return NotMember();
  PC_RETURN_IF_ERROR(error_);
  return up_->Grant(sequence);
}

StatusOr<bool> ChainCollective::Ready(Sequence sequence) {
  PC_RETURN_IF_ERROR(error_);
  return Source()->Ready(sequence);
}

Status ChainCollective::Launch(Operation operation) {
  PC_RETURN_IF_ERROR(error_);
  last_change_ = Now();
  if (!is_relay()) return Source()->Launch(std::move(operation));
  Operation passed_on = operation;
  passed_on.ready.clear();
  PC_RETURN_IF_ERROR(up_->Launch(std::move(operation)));
  sealed_.push_back(passed_on.sealed);
  arriving_.push_back(std::move(passed_on));
  return OkStatus();
}

StatusOr<bool> ChainCollective::Done(Sequence sequence) {
  PC_RETURN_IF_ERROR(error_);
  return Source()->Done(sequence);
}

StatusOr<bool> ChainCollective::Spent(Sequence sequence) {
  PC_RETURN_IF_ERROR(error_);
  if (!is_relay()) return true;
  if (sequence.value >= relayed_) return false;
  return down_->Done(sequence);
}

Status ChainCollective::Seal(Sequence sequence, const StepSeal& seal) {
  return up_ == nullptr ? down_->Seal(sequence, seal) : NotRoot();
}

StatusOr<std::optional<StepSeal>> ChainCollective::SealOf(Sequence sequence) {
  if (up_ == nullptr) return NotMember();
  PC_RETURN_IF_ERROR(error_);
  return up_->SealOf(sequence);
}

Status ChainCollective::End(uint64_t steps) {
  return up_ == nullptr ? down_->End(steps) : NotRoot();
}

StatusOr<std::optional<uint64_t>> ChainCollective::EndOf() {
  if (up_ == nullptr) return NotMember();
  PC_RETURN_IF_ERROR(error_);
  return up_->EndOf();
}

Status ChainCollective::Finish() {
  if (up_ == nullptr) return NotMember();
  PC_RETURN_IF_ERROR(error_);
  if (!is_relay()) return up_->Finish();
  finishing_ = true;
  return Keep(Relay());
}

StatusOr<bool> ChainCollective::Finished() {
  if (up_ != nullptr) return NotRoot();
  return down_->Finished();
}

StatusOr<bool> ChainCollective::Flushed() {
  PC_RETURN_IF_ERROR(error_);
  if (is_relay() && !finished_) return false;
  return Source()->Flushed();
}

// ---- a relay ------------------------------------------------------------------------------------

Status ChainCollective::Relay() {
  PC_RETURN_IF_ERROR(RelaySteps());
  PC_RETURN_IF_ERROR(RelaySeals());
  return RelayEnd();
}

// As each link has room. Grants do not go round by the root: a step would hold a buffer of every
// rank for as long as it takes through the whole chain.
Status ChainCollective::RelaySteps() {
  while (!arriving_.empty()) {
    PC_ASSIGN_OR_RETURN(const bool here, up_->Done(Sequence(relayed_)));
    PC_ASSIGN_OR_RETURN(const bool granted, down_->Ready(Sequence(relayed_)));
    if (!here || !granted) break;
    PC_RETURN_IF_ERROR(down_->Launch(std::move(arriving_.front())));
    arriving_.pop_front();
    ++relayed_;
    last_change_ = Now();
  }
  return OkStatus();
}

Status ChainCollective::RelaySeals() {
  for (; seals_relayed_ < relayed_; ++seals_relayed_, sealed_.pop_front()) {
    if (!sealed_.front()) continue;
    PC_ASSIGN_OR_RETURN(const auto seal, up_->SealOf(Sequence(seals_relayed_)));
    if (!seal) break;
    PC_RETURN_IF_ERROR(down_->Seal(Sequence(seals_relayed_), *seal));
    last_change_ = Now();
  }
  return OkStatus();
}

Status ChainCollective::RelayEnd() {
  if (!ended_) {
    PC_ASSIGN_OR_RETURN(const auto end, up_->EndOf());
    if (!end || *end != seals_relayed_) return OkStatus();
    PC_RETURN_IF_ERROR(down_->End(*end));
    ended_ = true;
    last_change_ = Now();
  }
  if (!finishing_ || finished_) return OkStatus();
  PC_ASSIGN_OR_RETURN(const bool below, down_->Finished());
  PC_ASSIGN_OR_RETURN(const bool flushed, down_->Flushed());
  if (!below || !flushed) return OkStatus();
  PC_RETURN_IF_ERROR(up_->Finish());
  finished_ = true;
  return OkStatus();
}

Status ChainCollective::Poll(Duration max_wait) {
  if (!is_relay()) return Source()->Poll(max_wait);
  PC_RETURN_IF_ERROR(error_);
  const Time before = last_change_;
  // Below first: an abort that comes from there has its reason.
  for (Collective* link : {down_.get(), up_.get()}) {
    const Status status = link->Poll(Duration::zero());
    if (!status.ok()) return Keep(status);
  }
  PC_RETURN_IF_ERROR(Keep(Relay()));
  if (last_change_ != before || max_wait <= Duration::zero()) return OkStatus();
  if (Now() - last_change_ < kSpin) {
    std::this_thread::yield();
    return OkStatus();
  }
  return Keep(up_->Poll(std::min(max_wait, kPause)));
}

// ---- giving up ----------------------------------------------------------------------------------

void ChainCollective::BeginAbort(std::string_view reason) {
  for (Collective* link : {up_.get(), down_.get()}) {
    if (link != nullptr) link->BeginAbort(reason);
  }
}

// Both, whatever becomes of the first: each may hold memory.
Status ChainCollective::Abort(std::string_view reason) {
  Status stopped;
  for (Collective* link : {up_.get(), down_.get()}) {
    if (link == nullptr) continue;
    const Status one = link->Abort(reason);
    if (stopped.ok()) stopped = one;
  }
  return stopped;
}

std::string ChainCollective::WaitingFor() { return (WaitsBelow() ? down_ : up_)->WaitingFor(); }

std::vector<uint32_t> ChainCollective::Late() {
  if (!WaitsBelow() || down_->Late().empty()) return {};
  return {(rank() + 1) % size()};
}

bool ChainCollective::WaitsBelow() {
  if (!is_relay()) return up_ == nullptr;
  // What is here waits for the next rank: to grant it, to read it, to finish.
  const auto has = [](Collective& link, uint64_t step) {
    const StatusOr<bool> done = link.Done(Sequence(step));
    return done.ok() && *done;
  };
  bool is_below = finishing_;
  if (!arriving_.empty()) {
    is_below = has(*up_, relayed_);
  } else if (!finishing_ && relayed_ > 0) {
    is_below = !has(*down_, relayed_ - 1);
  }
  return is_below;
}

std::optional<uint32_t> ChainCollective::culprit() const {
  if (down_ == nullptr || !down_->culprit()) return std::nullopt;
  return (rank() + 1) % size();
}

// A link's ranks: 0 feeds, 1 reads.
JoinOptions Link(const JoinOptions& options, uint32_t feeder, uint32_t rank) {
  JoinOptions link = options;
  link.relays = false;
  link.size = 2;
  link.root = 0;
  link.rank = rank;
  link.names.clear();
  link.numbers = {feeder, (feeder + 1) % options.size};
  for (const uint32_t number : link.numbers) {
    if (number < options.names.size()) link.names.push_back(options.names[number]);
  }
  return link;
}

}  // namespace

JoinOptions UpLink(const JoinOptions& options) {
  return Link(options, FeederOf(options.rank, options.size), 1);
}

JoinOptions DownLink(const JoinOptions& options) { return Link(options, options.rank, 0); }

std::unique_ptr<Collective> MakeChainCollective(const JoinOptions& options,
                                                std::unique_ptr<Collective> up,
                                                std::unique_ptr<Collective> down) {
  return std::make_unique<ChainCollective>(options, std::move(up), std::move(down));
}

}  // namespace packcast
