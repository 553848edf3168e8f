#include "actors/coordinator_link.h"

#include <utility>

#include "runtime/base/log.h"

namespace packcast {
namespace {

// Short, so that the destructor waits no longer than this for a Connect under way.
constexpr Duration kConnectTimeout = Milliseconds(500);
constexpr Duration kRetryPause = Milliseconds(200);

bool IsPermanent(const Status& status) {
  return status.code() == StatusCode::kUnimplemented ||
         status.code() == StatusCode::kFailedPrecondition ||
         status.code() == StatusCode::kPermissionDenied || status.code() == StatusCode::kStale ||
         status.code() == StatusCode::kInvalidArgument;
}

}  // namespace

CoordinatorLink::CoordinatorLink(Runtime* runtime, std::string endpoint,
                                 std::function<void(ActorRef)> up,
                                 std::function<void(const Status&)> refused)
    : runtime_(runtime),
      endpoint_(std::move(endpoint)),
      up_(std::move(up)),
      refused_(std::move(refused)) {
  thread_ = std::thread([this] { Loop(); });
}

CoordinatorLink::~CoordinatorLink() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void CoordinatorLink::Search() {
  std::lock_guard lock(mutex_);
  search_ = true;
  changed_.notify_all();
}

Status CoordinatorLink::WaitFirst(Duration timeout) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout, [this] { return found_once_ || IsPermanent(last_error_); });
  if (found_once_) return OkStatus();
  if (IsPermanent(last_error_)) return last_error_;
  return DeadlineExceeded("no coordinator answered at " + endpoint_ + " within " +
                          std::to_string(ToMilliseconds(timeout)) + " ms" +
                          (last_error_.ok() ? "" : " (" + last_error_.ToString() + ")"));
}

void CoordinatorLink::Loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return search_ || stopping_; });
    if (stopping_) return;
    lock.unlock();
    StatusOr<ActorRef> coordinator = runtime_->Connect(endpoint_, "coordinator", kConnectTimeout);
    lock.lock();
    if (coordinator.ok()) {
      search_ = false;
      found_once_ = true;
      changed_.notify_all();
      lock.unlock();
      up_(*coordinator);
      lock.lock();
      continue;
    }
    if (last_error_.code() != coordinator.status().code()) {
      LogInfo("coordinator at ", endpoint_, ": ", coordinator.status().ToString());
    }
    last_error_ = coordinator.status();
    changed_.notify_all();
    // Whatever else listens there now may make room for a coordinator again.
    if (found_once_ && last_error_.code() == StatusCode::kStale) {
      search_ = false;
      lock.unlock();
      refused_(coordinator.status());
      lock.lock();
      continue;
    }
    changed_.wait_for(lock, kRetryPause, [this] { return stopping_; });
  }
}

}  // namespace packcast
