#include "runtime/actor/executor.h"

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/spin.h"
#include "runtime/base/thread.h"

namespace packcast::internal {

struct Executor::State {
  std::mutex mutex;
  SpinCondition control_ready;  // the control thread waits here
  SpinCondition any_ready;      // the others
  std::condition_variable ended;
  std::deque<std::function<void()>> control;
  std::deque<std::function<void()>> normal;
  std::map<std::thread::id, std::thread> threads;  // until Stop
  int live_threads = 0;                            // the control thread is one of them
  int wanted_threads = 0;
  bool stopping = false;
};

Executor::Executor() : state_(std::make_shared<State>()) {}

Status Executor::Launch(bool control_only) {
  PC_ASSIGN_OR_RETURN(std::thread thread, StartThread("actors", [state = state_, control_only] {
                        Run(state, control_only);
                      }));
  const std::thread::id id = thread.get_id();
  state_->threads.emplace(id, std::move(thread));
  ++state_->live_threads;
  return OkStatus();
}

Status Executor::Start(int default_threads) {
  std::lock_guard lock(state_->mutex);
  state_->wanted_threads = default_threads + 1;
  for (int k = 0; k <= default_threads; ++k) PC_RETURN_IF_ERROR(Launch(k == 0));
  return OkStatus();
}

Executor::~Executor() { PC_CHECK(state_->stopping) << "Executor::Stop was not called"; }

Status Executor::AddThreads(int count) {
  std::lock_guard lock(state_->mutex);
  if (state_->stopping) return OkStatus();
  const int wanted = state_->wanted_threads + count;
  if (wanted > kMostThreads) {
    return ResourceExhausted("actors of this runtime would want " + std::to_string(wanted) +
                             " threads, the most is " + std::to_string(kMostThreads) +
                             ": use fewer groups, or groups of less concurrency");
  }
  while (state_->live_threads < wanted) {
    const Status launched = Launch(false);
    if (launched.ok()) continue;
    state_->any_ready.NotifyAll();  // those that were made go again
    return launched;
  }
  state_->wanted_threads = wanted;
  return OkStatus();
}

void Executor::RemoveThreads(int count) {
  if (count == 0) return;
  std::lock_guard lock(state_->mutex);
  state_->wanted_threads -= count;
  state_->any_ready.NotifyAll();
}

bool Executor::Post(bool control, std::function<void()>&& work) {
  bool wake_control = false;
  bool wake_any = false;
  {
    std::lock_guard lock(state_->mutex);
    if (state_->stopping) return false;
    (control ? state_->control : state_->normal).push_back(std::move(work));
    // The control thread may be inside slow user code: an idle one of the others takes it then.
    wake_control = control && state_->control_ready.Changed(state_->control.size());
    wake_any = state_->any_ready.Changed(state_->control.size() + state_->normal.size());
  }
  if (wake_control) state_->control_ready.WakeOne();
  if (wake_any) state_->any_ready.WakeOne();
  return true;
}

void Executor::Run(const std::shared_ptr<State>& state, bool control_only) {
  std::unique_lock lock(state->mutex);
  SpinCondition& ready = control_only ? state->control_ready : state->any_ready;
  const auto is_surplus = [&] {
    return !control_only && state->live_threads > state->wanted_threads;
  };
  while (true) {
    ready.Wait(lock, [&] {
      return state->stopping || !state->control.empty() ||
             (!control_only && !state->normal.empty()) || is_surplus();
    });
    // What was promised to run, such as callbacks of futures, is control work.
    if (state->control.empty() && (state->stopping || is_surplus())) break;
    auto& queue = state->control.empty() ? state->normal : state->control;
    std::function<void()> work = std::move(queue.front());
    queue.pop_front();
    lock.unlock();
    work();
    work = nullptr;  // what it holds may need the lock when it goes
    lock.lock();
  }
  --state->live_threads;
  // Nobody joins one that is no longer wanted: it holds nothing but the state.
  if (!state->stopping) state->threads.extract(std::this_thread::get_id()).mapped().detach();
  state->ended.notify_all();
}

bool Executor::Stop(Duration patience) {
  std::deque<std::function<void()>> dropped_control;
  std::deque<std::function<void()>> dropped_normal;
  bool all_ended = false;
  std::map<std::thread::id, std::thread> threads;
  {
    std::unique_lock lock(state_->mutex);
    state_->stopping = true;
    state_->control_ready.NotifyAll();
    state_->any_ready.NotifyAll();
    dropped_normal.swap(state_->normal);
    all_ended = state_->ended.wait_for(lock, ClampedWait(patience),
                                       [this] { return state_->live_threads == 0; });
    dropped_control.swap(state_->control);  // of those that are stuck
    threads.swap(state_->threads);
  }
  for (auto& [id, thread] : threads) all_ended ? thread.join() : thread.detach();
  return all_ended;
}

}  // namespace packcast::internal
