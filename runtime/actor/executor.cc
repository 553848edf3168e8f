#include "runtime/actor/executor.h"

#include <condition_variable>
#include <deque>
#include <mutex>

#include "runtime/base/check.h"
#include "runtime/base/spin.h"

namespace packcast::internal {

struct Executor::State {
  std::mutex mutex;
  SpinCondition control_ready;  // the control thread waits here
  SpinCondition any_ready;      // the others
  std::condition_variable ended;
  std::deque<std::function<void()>> control;
  std::deque<std::function<void()>> normal;
  int live_threads = 0;
  bool stopping = false;
};

Executor::Executor(int default_threads) : state_(std::make_shared<State>()) {
  state_->live_threads = default_threads + 1;
  for (int k = 0; k <= default_threads; ++k) {
    threads_.emplace_back([state = state_, control_only = k == 0] { Run(state, control_only); });
  }
}

Executor::~Executor() { PC_CHECK(threads_.empty()) << "Executor::Stop was not called"; }

bool Executor::Post(bool control, std::function<void()>&& work) {
  std::lock_guard lock(state_->mutex);
  if (state_->stopping) return false;
  (control ? state_->control : state_->normal).push_back(std::move(work));
  // The control thread may be inside slow user code: an idle one of the others takes it then.
  if (control) state_->control_ready.NotifyOne(state_->control.size());
  state_->any_ready.NotifyOne(state_->control.size() + state_->normal.size());
  return true;
}

void Executor::Run(const std::shared_ptr<State>& state, bool control_only) {
  std::unique_lock lock(state->mutex);
  SpinCondition& ready = control_only ? state->control_ready : state->any_ready;
  while (true) {
    ready.Wait(lock, [&] {
      return state->stopping || !state->control.empty() ||
             (!control_only && !state->normal.empty());
    });
    if (state->stopping) break;
    auto& queue = state->control.empty() ? state->normal : state->control;
    std::function<void()> work = std::move(queue.front());
    queue.pop_front();
    lock.unlock();
    work();
    work = nullptr;  // what it holds may need the lock when it goes
    lock.lock();
  }
  --state->live_threads;
  state->ended.notify_all();
}

bool Executor::Stop(Duration patience) {
  std::deque<std::function<void()>> dropped_control;
  std::deque<std::function<void()>> dropped_normal;
  bool all_ended = false;
  {
    std::unique_lock lock(state_->mutex);
    state_->stopping = true;
    state_->control_ready.NotifyAll();
    state_->any_ready.NotifyAll();
    dropped_control.swap(state_->control);
    dropped_normal.swap(state_->normal);
    all_ended = state_->ended.wait_for(lock, ClampedWait(patience),
                                       [this] { return state_->live_threads == 0; });
  }
  for (std::thread& thread : threads_) all_ended ? thread.join() : thread.detach();
  threads_.clear();
  return all_ended;
}

}  // namespace packcast::internal
