#include "actors/drive_queue.h"

#include <utility>

namespace packcast {

void DriveQueue::Post(Work work) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  queue_.push_back(std::move(work));
  changed_.NotifyAll();
}

void DriveQueue::Wake() {
  std::lock_guard lock(mutex_);
  woken_ = true;
  changed_.NotifyAll();
}

size_t DriveQueue::Drive(Duration max_wait) {
  size_t done = 0;
  std::unique_lock lock(mutex_);
  if (queue_.empty()) {
    changed_.WaitFor(lock, max_wait, [this] { return !queue_.empty() || woken_ || closed_; });
  }
  woken_ = false;
  while (!queue_.empty()) {
    Work work = std::move(queue_.front());
    queue_.pop_front();
    running_ = std::this_thread::get_id();
    lock.unlock();
    work();
    work = nullptr;  // what it holds may post again, or be what Close waits for
    ++done;
    lock.lock();
    running_ = std::thread::id();
    changed_.NotifyAll();
  }
  return done;
}

void DriveQueue::Close() {
  std::deque<Work> dropped;  // destroyed without the lock
  {
    std::unique_lock lock(mutex_);
    closed_ = true;
    dropped.swap(queue_);
    changed_.NotifyAll();
  }
  dropped.clear();  // before the wait: the piece that runs may be waiting for a dropped promise
  std::unique_lock lock(mutex_);
  changed_.Wait(lock, [this] {
    return running_ == std::thread::id() || running_ == std::this_thread::get_id();
  });
}

bool DriveQueue::closed() const {
  std::lock_guard lock(mutex_);
  return closed_;
}

}  // namespace packcast
