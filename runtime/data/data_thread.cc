#include "runtime/data/data_thread.h"

#include <pthread.h>

#include <utility>

namespace packcast {

DataThread::DataThread(std::string name, size_t queue_max)
    : name_(std::move(name)), queue_max_(queue_max), thread_([this] { Loop(); }) {}

DataThread::~DataThread() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    const Status why = Cancelled("the data thread \"" + name_ + "\" is shutting down");
    if (running_ != nullptr) running_->Cancel(why);
    for (const Entry& entry : queue_) entry.token->Cancel(why);
    changed_.NotifyAll();
  }
  thread_.join();
}

StatusOr<std::shared_ptr<CancelToken>> DataThread::Submit(Job job) {
  auto token = std::make_shared<CancelToken>();
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return Cancelled("the data thread \"" + name_ + "\" is shutting down");
    if (queue_.size() >= queue_max_) {
      return ResourceExhausted("the data thread \"" + name_ + "\" has " +
                               std::to_string(queue_max_) + " jobs waiting");
    }
    queue_.push_back({std::move(job), token});
    changed_.NotifyAll();
  }
  return token;
}

size_t DataThread::queued() const {
  std::lock_guard lock(mutex_);
  return queue_.size();
}

void DataThread::Loop() {
  pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());  // the kernel's limit
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.Wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Entry entry = std::move(queue_.front());
    queue_.pop_front();
    running_ = entry.token;
    busy_.store(true, std::memory_order_release);
    lock.unlock();
    beats_.fetch_add(1, std::memory_order_relaxed);
    entry.job(Context{entry.token.get(), &beats_});
    entry.job = nullptr;  // what it captured ends here, not under the lock
    lock.lock();
    running_ = nullptr;
    busy_.store(false, std::memory_order_release);
  }
}

}  // namespace packcast
