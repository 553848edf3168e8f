#include "runtime/data/broadcast_end.h"

#include <algorithm>
#include <chrono>

#include "runtime/data/phase_timer.h"

namespace packcast::internal {

StatusOr<bool> BroadcastEnd::Advance() {
  if (!error_.ok()) return error_;
  if (finished_) return true;
  progress_ = false;
  budget_ = kAdvanceBytes;
  const StatusOr<bool> finished = Turn();
  if (!finished.ok()) {
    Abort(finished.status());
    return error_;
  }
  finished_ = *finished;
  idle_ = !progress_;
  return finished_;
}

void BroadcastEnd::Abort(const Status& why) {
  if (!error_.ok() || finished_) return;
  error_ = why;
  Status stopped = collective_->Abort(why.message());
  if (const Status work = StopWork(); stopped.ok()) stopped = work;
  if (stopped.ok()) {
    if (ring_.has_ring()) ring_->Reset();
  } else {
    error_ = Status(why.code(), why.message() + "; and " + stopped.message());
    ring_.Abandon();
  }
  Drop(!stopped.ok());
}

StatusOr<bool> BroadcastEnd::EndStream(uint64_t steps, bool all_left) {
  if (!ended_) {
    PC_RETURN_IF_ERROR(collective_->End(steps));
    ended_ = true;
    progress_ = true;
  }
  if (!all_left) return false;
  if (options_.wait_for_members) {
    PC_ASSIGN_OR_RETURN(const bool members, collective_->Finished());
    if (!members) return false;
  }
  // Nobody polls after that: what is queued here now would stay.
  return collective_->Flushed();
}

StatusOr<BroadcastResult> BroadcastEnd::Run(Time deadline, CancelToken* cancel,
                                            std::atomic<uint64_t>* beats) {
  ScopedWake wake(cancel, [this] { collective_->Wake(); });
  cancel_ = cancel;
  StatusOr<BroadcastResult> result = Loop(deadline, beats);
  cancel_ = nullptr;
  return result;
}

Time BroadcastEnd::PutOffUntil() const {
  if (options_.put_off_until == nullptr) return Time();
  return Time(Duration(options_.put_off_until->load(std::memory_order_relaxed)));
}

Status BroadcastEnd::CheckStall(Time moved, Time now) {
  if (options_.stall <= Duration::zero()) return OkStatus();
  const Time begin = std::max({moved, options_.stall_from, PutOffUntil()});
  if (now - begin < options_.stall) return OkStatus();
  const std::vector<uint32_t> late =
      MayWaitForRanks() ? collective_->Late() : std::vector<uint32_t>();
  if (late.empty()) return OkStatus();
  const Status why = DeadlineExceeded(
      collective_->Describe(collective_->rank()) + " could not go on for " +
      std::to_string(ToMilliseconds(options_.stall)) + " ms, waiting for " + WaitingFor());
  collective_->Accuse(late.front());
  return why;
}

StatusOr<BroadcastResult> BroadcastEnd::Loop(Time deadline, std::atomic<uint64_t>* beats) {
  Time moved = std::chrono::steady_clock::now();
  const Duration limit = deadline - moved;
  while (true) {
    if (beats != nullptr) beats->fetch_add(1, std::memory_order_relaxed);
    if (cancel_ != nullptr && cancel_->cancelled()) {
      Abort(cancel_->status());
      return error_;
    }
    PC_ASSIGN_OR_RETURN(const bool finished, Advance());
    if (finished) return result_;
    const Time now = std::chrono::steady_clock::now();
    const Time end = std::max(deadline, PutOffUntil() + limit);
    if (now >= end) {
      Abort(DeadlineExceeded(collective_->Describe(collective_->rank()) +
                             " is past its deadline, waiting for " + WaitingFor()));
      return error_;
    }
    if (!idle_) moved = now;
    if (const Status stall = CheckStall(moved, now); !stall.ok()) {
      Abort(stall);
      return error_;
    }
    if (!idle_) {
      const Status polled = collective_->Poll(Duration::zero());
      if (!polled.ok()) Abort(polled);
      continue;
    }
    PhaseTimer timer(wait_seconds());
    const Status polled = collective_->Poll(std::min<Duration>(end - now, kPollMax));
    if (!polled.ok()) Abort(polled);
  }
}

}  // namespace packcast::internal
