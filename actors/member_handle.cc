#include "actors/member_handle.h"

namespace packcast {
namespace {

constexpr Duration kStopWait = Seconds(5);

}  // namespace

Status MemberHandle::Start(const std::string& name, std::unique_ptr<MemberShell> shell,
                           const std::string& coordinator, Duration timeout) {
  std::lock_guard lock(mutex_);
  PC_ASSIGN_OR_RETURN(ref_, runtime_->Spawn(name, std::move(shell)));
  shared_->inbox.Bind(ref_);
  link_ = std::make_unique<CoordinatorLink>(
      runtime_, coordinator,
      [shared = shared_](ActorRef ref) { shared->inbox.Post(LinkUp{std::move(ref)}); },
      [shared = shared_](const Status& why) { shared->inbox.Post(LinkRefused{why}); });
  {
    std::lock_guard shared_lock(shared_->mutex);
    shared_->search = [link = link_.get()] { link->Search(); };
  }
  return link_->WaitFirst(timeout);
}

void MemberHandle::Stop() {
  shared_->Stop(Cancelled("stopped here"));
  // Drops callbacks that the data thread may be waiting for: it is joined below. Not under the
  // lock: the callback that is waited for may call Stop itself.
  shared_->drive.Close();
  std::lock_guard lock(mutex_);
  {
    std::lock_guard shared_lock(shared_->mutex);
    shared_->search = nullptr;
  }
  link_.reset();
  if (ref_.valid()) {
    shared_->inbox.Post(LeaveNow{});
    // Bounded; the runtime's own shutdown ends what is still busy then.
    (void)runtime_->Stop(ref_, kStopWait);
    ref_ = ActorRef();
  }
}

Status MemberHandle::Standing() const {
  if (!shared_->stopped) return OkStatus();
  std::lock_guard lock(shared_->mutex);
  return shared_->stop_status;
}

}  // namespace packcast
