#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "runtime/data/collective_base.h"
#include "runtime/data/zmq_collective.h"
#include "runtime/data/zmq_wire.h"
#include "runtime/net/wakeup.h"
#include "runtime/net/zmq_socket.h"

namespace packcast::zmq_bulk {

// What root and member of a ZeroMQ collective share: the lock around everything, the sticky error,
// waiting, waking and aborting. Derived classes do their work in Pump.
class ZmqEnd : public CollectiveBase {
 public:
  Status Poll(Duration max_wait) final;
  void Wake() final { wake_->Raise(); }
  Status Abort(std::string_view reason) final;
  std::string WaitingFor() final;
  std::vector<uint32_t> Late() final;
  void Accuse(uint32_t rank) final;
  std::optional<uint32_t> culprit() const final;
  const CollectiveProgress& progress() const final { return progress_; }

 protected:
  using Lock = std::unique_lock<std::mutex>;

  ZmqEnd(const JoinOptions& options, ZmqTransportOptions transport, net::ZmqSocket socket,
         const Digest& token);

  // All under the lock. Pump: everything that can be done now; whether there was something.
  virtual StatusOr<bool> Pump() = 0;
  // Whether Poll may sleep until the socket is readable, and how long at most.
  virtual bool wants_input() const = 0;
  virtual Duration longest_sleep() const = 0;
  virtual void SendAbort(const std::string& reason) = 0;
  // After the socket was closed: waits until ZeroMQ has let go of the caller's memory.
  virtual Status WaitForRelease() = 0;
  virtual std::string WaitingForLocked() = 0;
  virtual std::vector<uint32_t> LateLocked() { return {}; }

  Status Check() const;
  Status Fail(Status status);
  // `status`, which becomes the error; if it is one, `rank` is its culprit.
  Status Blame(uint32_t rank, Status status);
  // Lets nobody else connect: strangers would take time of the thread that sends the bytes. Where
  // the kernel will not have it the door stays open, and who comes is still no rank. Once or more.
  void CloseDoor();
  // Sleeps until the socket may have something (if wanted), wake_ is raised or `wait` is over.
  void WaitForInput(Duration wait);

  mutable std::mutex mutex_;
  const ZmqTransportOptions transport_;
  const Digest token_;
  net::ZmqSocket socket_;
  const std::shared_ptr<net::Wakeup> wake_;
  CollectiveProgress progress_;
  bool joined_ = false;

 private:
  std::atomic<bool> abort_requested_{false};
  mutable std::mutex reason_mutex_;  // guards abort_reason_: mutex_ may be held by a long Poll
  std::string abort_reason_;
  bool aborted_ = false;
  Status abort_result_;
  Status error_;
  std::optional<uint32_t> culprit_;
  bool is_door_closed_ = false;
};

// `socket` is the bound ROUTER.
std::unique_ptr<Collective> MakeRoot(const JoinOptions& options,
                                     const ZmqTransportOptions& transport, net::ZmqSocket socket,
                                     const Digest& token);
// `socket` is the connecting DEALER.
std::unique_ptr<Collective> MakeMember(const JoinOptions& options,
                                       const ZmqTransportOptions& transport, net::ZmqSocket socket,
                                       const Digest& token);

}  // namespace packcast::zmq_bulk
