#include "runtime/data/zmq_end.h"

#include <zmq.h>

#include <algorithm>

namespace packcast::zmq_bulk {

ZmqEnd::ZmqEnd(const JoinOptions& options, ZmqTransportOptions transport, net::ZmqSocket socket,
               const Digest& token)
    : CollectiveBase(options),
      transport_(std::move(transport)),
      token_(token),
      socket_(std::move(socket)),
      wake_(std::make_shared<net::Wakeup>()) {}

Status ZmqEnd::Check() const {
  if (abort_requested_.load()) return Aborted("this rank aborted the collective");
  return error_;
}

Status ZmqEnd::Fail(Status status) {
  if (error_.ok()) error_ = std::move(status);
  return error_;
}

Status ZmqEnd::Poll(Duration max_wait) {
  Lock lock(mutex_);
  PC_RETURN_IF_ERROR(Check());
  StatusOr<bool> progress = Pump();
  if (!progress.ok()) return Fail(progress.status());
  if (*progress || max_wait <= Duration::zero()) return OkStatus();
  zmq_pollitem_t items[] = {{nullptr, wake_->fd(), ZMQ_POLLIN, 0},
                            {socket_.handle(), 0, ZMQ_POLLIN, 0}};
  const Duration wait = std::min(max_wait, longest_sleep());
  // Rounded up: a wait of less than a millisecond must not become a busy loop.
  const long wait_ms = static_cast<long>(ToMilliseconds(wait + Milliseconds(1) - Nanoseconds(1)));
  // The lock stays held: whoever else wants it (Abort) sets wake_ first.
  zmq_poll(items, wants_input() ? 2 : 1, wait_ms);
  wake_->Lower();
  PC_RETURN_IF_ERROR(Check());
  progress = Pump();
  return progress.ok() ? OkStatus() : Fail(progress.status());
}

Status ZmqEnd::Abort(std::string_view reason) {
  abort_requested_.store(true);
  wake_->Raise();
  Lock lock(mutex_);
  if (aborted_) return abort_result_;
  aborted_ = true;
  if (!socket_.is_open()) return OkStatus();
  SendAbort(std::string(reason.substr(0, kReasonBytesMax)));
  CloseSocket(kAbortLinger);
  abort_result_ = WaitForRelease();
  return abort_result_;
}

void ZmqEnd::CloseSocket(Duration linger) {
  if (!socket_.is_open()) return;
  const int linger_ms = static_cast<int>(ToMilliseconds(linger));
  zmq_setsockopt(socket_.handle(), ZMQ_LINGER, &linger_ms, sizeof linger_ms);
  socket_.Close();
}

std::string ZmqEnd::WaitingFor() {
  Lock lock(mutex_);
  return WaitingForLocked();
}

}  // namespace packcast::zmq_bulk
