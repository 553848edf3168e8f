#include "runtime/base/thread.h"

#include <condition_variable>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace packcast {

StatusOr<std::thread> StartThread(const char* what, std::function<void()> work) {
  try {
    return std::thread(std::move(work));
  } catch (const std::system_error& error) {
    return ResourceExhausted(std::string("no thread for ") + what + ": " + error.what() +
                             ": raise the limit on threads (ulimit -u, TasksMax, the pids cgroup) "
                             "or on memory");
  }
}

Status CheckThreadsLeft(const char* what, int count) {
  std::mutex mutex;
  std::condition_variable changed;
  bool all_are_there = false;
  const auto wait = [&] {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return all_are_there; });
  };
  std::vector<std::thread> threads;
  Status status;
  for (int k = 0; k < count && status.ok(); ++k) {
    StatusOr<std::thread> started = StartThread(what, wait);
    status = started.status();
    if (started.ok()) threads.push_back(*std::move(started));
  }
  {
    std::lock_guard lock(mutex);
    all_are_there = true;
  }
  changed.notify_all();
  for (std::thread& thread : threads) thread.join();
  return status;
}

}  // namespace packcast
