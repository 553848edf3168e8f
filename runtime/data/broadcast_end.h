#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/data/broadcast.h"
#include "runtime/data/broadcast_setup.h"
#include "runtime/data/cancel_token.h"
#include "runtime/data/collective.h"

namespace packcast::internal {

// Bytes copied by one Advance, about: the collective is polled after that many, so this bounds how
// long a finished transfer waits for its successor (0.1 ms at 10 GB/s).
inline constexpr uint64_t kAdvanceBytes = uint64_t{1} << 20;
// What is copied and then hashed at a time: stays in the L2 cache.
inline constexpr uint64_t kSliceBytes = uint64_t{256} << 10;
// What a row or step costs an Advance besides its bytes, so that many tiny rows are bounded too.
inline constexpr uint64_t kEventBytes = 4096;

// A Poll waits no longer, so that beats grow and cancellation is seen even if a wake got lost.
inline constexpr Duration kPollMax = Milliseconds(100);

// What producer and consumer share: turns with a budget, the sticky error, giving up, and the loop
// of Run. Their headers say how these are used. One thread.
class BroadcastEnd {
 public:
  virtual ~BroadcastEnd() = default;
  BroadcastEnd(const BroadcastEnd&) = delete;
  BroadcastEnd& operator=(const BroadcastEnd&) = delete;

  StatusOr<bool> Advance();
  void Abort(const Status& why);
  StatusOr<BroadcastResult> Run(Time deadline, CancelToken* cancel, std::atomic<uint64_t>* beats);
  bool idle() const { return idle_; }
  const BroadcastResult& result() const { return result_; }

 protected:
  BroadcastEnd(Collective* collective, const BroadcastOptions& options, RingHandle ring)
      : collective_(collective), options_(options), ring_(std::move(ring)) {}
  // For the destructors of derived classes: later, Drop is gone.
  void AbortUnlessFinished(const Status& why) {
    if (!finished_) Abort(why);
  }

  // What can be done now, for at most `budget_` bytes; sets `progress_`. True when finished.
  virtual StatusOr<bool> Turn() = 0;
  // After an abort: waits for what else touches memory, a device's kernels for instance. An error
  // means that it may go on doing so.
  virtual Status StopWork() { return OkStatus(); }
  // After an abort: forgets steps and tensors. `is_read` means that transport or device may go on
  // using the memory of steps.
  virtual void Drop(bool is_read) = 0;
  // Where the waiting of now is counted, and what it is for.
  virtual double* wait_seconds() = 0;
  virtual std::string WaitingFor() { return collective_->WaitingFor(); }
  // Whether what comes next may be up to the ranks that this one feeds.
  virtual bool MayWaitForRanks() { return true; }

  // A root's last part, once `steps` are launched: says so, and waits for the members as the
  // options ask. `all_left`: no step is under way here. True when finished.
  StatusOr<bool> EndStream(uint64_t steps, bool all_left);

  Collective* const collective_;
  const BroadcastOptions options_;
  RingHandle ring_;
  CancelToken* cancel_ = nullptr;  // of the Run that is under way
  bool progress_ = false;          // in this Advance
  uint64_t budget_ = 0;            // bytes left for this Advance
  BroadcastResult result_;

 private:
  StatusOr<BroadcastResult> Loop(Time deadline, std::atomic<uint64_t>* beats);
  // OK, or which rank has kept this one waiting for too long since `moved`.
  Status CheckStall(Time moved, Time now);
  Time PutOffUntil() const;

  Status error_;
  bool ended_ = false;  // EndStream has said so
  bool finished_ = false;
  bool idle_ = false;
};

}  // namespace packcast::internal
