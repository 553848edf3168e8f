#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocol/digest.h"
#include "protocol/ids.h"
#include "protocol/status.h"
#include "runtime/data/collective.h"

namespace packcast {

// The root's announcement that an operation was launched.
struct Gate {
  Sequence sequence;
  uint64_t bytes = 0;
  uint64_t first_region = 0;
  uint32_t regions = 0;
  bool sealed = true;
  std::string note;  // Operation::note
};

// The rules of one stream at its root: who granted what, what may be launched. Pure; owned by a
// collective, under its lock.
class RootLedger {
 public:
  RootLedger(uint32_t size, uint32_t root);

  // A new stream. kFailedPrecondition while the last one, if it launched anything, is incomplete.
  Status Begin();

  // `rank` has granted the first `count` sequences; a smaller count than before is a repetition.
  // kInvalidArgument beyond the window.
  Status OnGranted(uint32_t rank, uint64_t count);
  void OnFinished(uint32_t rank) { finished_[rank] = true; }
  // `rank` has released the first `count` operations; as OnGranted. kInvalidArgument beyond the
  // launched ones.
  Status OnReleased(uint32_t rank, uint64_t count);

  bool Ready(Sequence sequence) const;
  // Not sticky: kFailedPrecondition out of order, not Ready or after End; kInvalidArgument for an
  // operation without bytes, which no chunk would complete.
  Status CheckLaunch(const Operation& operation) const;
  void Launched() { ++launched_; }
  void Completed() { ++completed_; }
  Status CheckSeal(Sequence sequence) const;
  Status End(uint64_t steps);

  bool begun() const { return begun_; }
  bool ended() const { return end_.has_value(); }
  uint64_t launched() const { return launched_; }
  uint64_t completed() const { return completed_; }
  uint64_t granted(uint32_t rank) const { return granted_[rank]; }
  bool finished(uint32_t rank) const { return finished_[rank]; }
  // The ranks that have not released the oldest operation that is not complete.
  std::vector<uint32_t> Readers() const;
  bool AllFinished() const;
  // Ended, everything complete: nobody needs this rank's memory any more.
  bool IsQuiet() const { return !begun_ || (end_.has_value() && completed_ == launched_); }

  // The ranks that keep the next operation, or the end, from going on.
  std::vector<uint32_t> Laggards() const;

 private:
  const uint32_t size_;
  const uint32_t root_;
  bool begun_ = false;
  uint64_t launched_ = 0;
  uint64_t completed_ = 0;
  std::optional<uint64_t> end_;
  std::vector<uint64_t> granted_;
  std::vector<uint64_t> released_;
  std::vector<bool> finished_;
};

// The rules of one stream at a member. Pure; owned by a collective, under its lock.
class MemberLedger {
 public:
  explicit MemberLedger(std::string self) : self_(std::move(self)) {}

  // A new stream. kFailedPrecondition while the last one, if it has a gate or end, is unfinished.
  Status Begin();
  Status CheckGrant(Sequence sequence) const;
  void Granted() { ++granted_; }

  // From the root; kInternal (a protocol error) when out of order or never granted.
  Status OnGate(const Gate& gate);
  Status OnSeal(Sequence sequence, StepSeal seal);
  Status OnEnd(uint64_t steps);

  bool Ready(Sequence sequence) const;
  // Of the next operation to launch.
  std::string NextNote() const { return gates_.empty() ? "" : gates_.front().note; }
  // kFailedPrecondition; `*fatal` when the root's plan is another one than ours.
  Status CheckLaunch(const Operation& operation, bool* fatal) const;
  void Launched();
  void Completed() { ++completed_; }
  Status CheckRelease(Sequence sequence) const;
  void Released() { ++released_; }
  std::optional<StepSeal> SealOf(Sequence sequence) const;
  // The first complete operation that waits for its seal.
  std::optional<Sequence> FirstUnsealed() const;
  std::optional<uint64_t> end() const { return end_; }
  Status Finish();

  bool begun() const { return begun_; }
  uint64_t granted() const { return granted_; }
  uint64_t launched() const { return launched_; }
  uint64_t completed() const { return completed_; }
  uint64_t released() const { return released_; }
  bool finished() const { return finished_; }
  bool IsQuiet() const { return !begun_ || finished_; }

 private:
  const std::string self_;
  bool begun_ = false;
  bool finished_ = false;
  uint64_t granted_ = 0;
  uint64_t gated_ = 0;
  uint64_t launched_ = 0;
  uint64_t completed_ = 0;
  uint64_t released_ = 0;
  std::deque<Gate> gates_;  // [launched_, gated_)
  std::map<uint64_t, StepSeal> seals_;
  bool is_sealed_ = false;  // the last launched operation was to be sealed, as all of a stream are
  std::optional<uint64_t> end_;
};

}  // namespace packcast
