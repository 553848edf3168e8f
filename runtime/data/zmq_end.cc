#include "runtime/data/zmq_end.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/spin.h"
#include "runtime/net/listener.h"

namespace packcast::zmq_bulk {

ZmqEnd::ZmqEnd(const JoinOptions& options, ZmqTransportOptions transport, net::ZmqSocket socket,
               const Digest& token)
    : CollectiveBase(options),
      transport_(std::move(transport)),
      token_(token),
      socket_(std::move(socket)),
      wake_(std::make_shared<net::Wakeup>()) {}

Status ZmqEnd::Check() const {
  if (!abort_requested_.load()) return error_;
  std::lock_guard lock(reason_mutex_);
  return Aborted("this rank aborted the collective: " + abort_reason_);
}

Status ZmqEnd::Fail(Status status) {
  if (error_.ok()) error_ = std::move(status);
  return error_;
}

Status ZmqEnd::Blame(uint32_t rank, Status status) {
  if (!status.ok() && !culprit_) culprit_ = rank;
  return status;
}

std::optional<uint32_t> ZmqEnd::culprit() const {
  Lock lock(mutex_);
  return culprit_;
}

Status ZmqEnd::Poll(Duration max_wait) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  StatusOr<bool> progress = Pump();
  if (!progress.ok()) return Fail(progress.status());
  if (*progress || max_wait <= Duration::zero()) return OkStatus();
  // The lock stays held: whoever else wants it (Abort) raises wake_ first.
  WaitForInput(std::min(max_wait, longest_sleep()));
  wake_->Lower();
  PC_RETURN_IF_ERROR(Check());
  progress = Pump();
  return progress.ok() ? OkStatus() : Fail(progress.status());
}

Status ZmqEnd::Abort(std::string_view reason) {
  {
    std::lock_guard lock(reason_mutex_);
    if (!abort_requested_.load()) abort_reason_ = reason.substr(0, kReasonBytesMax);
    abort_requested_.store(true);
  }
  wake_->Raise();
  Lock lock(mutex_);
  if (aborted_) return abort_result_;
  aborted_ = true;
  if (!socket_.is_open()) return OkStatus();
  SendAbort(abort_reason_);  // written once
  socket_.Close();
  abort_result_ = WaitForRelease();
  return abort_result_;
}

void ZmqEnd::CloseDoor() {
  if (std::exchange(is_door_closed_, true)) return;
  const Status closed = net::CloseDoor(socket_.bound());
  if (!closed.ok()) LogWarning("the bulk lane's port stays open: ", closed.message());
}

void ZmqEnd::WaitForInput(Duration wait) {
  const bool input = wants_input();
  // Asking also takes ZeroMQ's pending signals, so that its descriptor speaks of new ones only.
  if (input && socket_.can_receive()) return;
  pollfd items[] = {{wake_->fd(), POLLIN, 0}, {socket_.fd(), POLLIN, 0}};
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(wait);
  const timespec timeout{static_cast<time_t>(seconds.count()),
                         static_cast<long>((wait - seconds).count())};
  const nfds_t count = input ? 2 : 1;
  // A stream's words come one upon the other: looking is quicker than being woken.
  const timespec at_once{};
  if (Spins()) {
    const Time end = Now() + std::min(SpinTime(), wait);
    do {
      if (ppoll(items, count, &at_once, nullptr) != 0) return;
    } while (SpinPause() && Now() < end);
  }
  ppoll(items, count, &timeout, nullptr);
}

std::vector<uint32_t> ZmqEnd::Late() {
  Lock lock(mutex_);
  return LateLocked();
}

void ZmqEnd::Accuse(uint32_t rank) {
  Lock lock(mutex_);
  if (!culprit_) culprit_ = rank;
}

std::string ZmqEnd::WaitingFor() {
  Lock lock(mutex_);
  return WaitingForLocked();
}

}  // namespace packcast::zmq_bulk
