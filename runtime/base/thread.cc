#include "runtime/base/thread.h"

#include <future>
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
  std::promise<void> all_are_there;
  const std::shared_future<void> end = all_are_there.get_future().share();
  std::vector<std::thread> threads;
  Status status;
  for (int k = 0; k < count && status.ok(); ++k) {
    StatusOr<std::thread> started = StartThread(what, [end] { end.wait(); });
    status = started.status();
    if (started.ok()) threads.push_back(*std::move(started));
  }
  all_are_there.set_value();
  for (std::thread& thread : threads) thread.join();
  return status;
}

}  // namespace packcast
