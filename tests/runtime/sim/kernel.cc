#include "tests/runtime/sim/kernel.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"
#include "tests/runtime/sim/descriptors.h"

namespace packcast::rtsim {
namespace {

// What a step takes: so that no two things happen at once, and no loop lasts for ever.
constexpr Duration kStep = Microseconds(1);
constexpr size_t kLinesKept = 100'000;
constexpr uint64_t kMostSteps = 3'000'000;
constexpr Duration kLongestStall = Milliseconds(5);

}  // namespace

Kernel* Kernel::current_ = nullptr;

Kernel::Kernel(const KernelOptions& options)
    : options_(options),
      random_(options.seed),
      trace_(options.record ? kLinesKept : 0),
      // Not 0: a default-made Time means "never" here and there.
      now_(Seconds(1000)),
      descriptors_(std::make_unique<Descriptors>(this)) {}

Kernel::~Kernel() = default;

std::string Kernel::Run(std::function<void()> main) {
  PC_CHECK(current_ == nullptr) << "one simulation at a time";
  current_ = this;
  Process* const process = NewProcess("world");
  Start(std::move(main), process);
  running_ = threads_.front().get();
  running_->fiber->SwitchFrom(&root_);
  current_ = nullptr;
  done_.clear();
  return failure_;
}

Process* Kernel::NewProcess(std::string name) {
  auto process = std::make_unique<Process>();
  process->id = static_cast<int>(processes_.size());
  process->name = std::move(name);
  processes_.push_back(std::move(process));
  return processes_.back().get();
}

void Kernel::Freeze(Process* process) {
  process->is_frozen = true;
  process->frozen_at = now_;
  if (running_->process == process) SwitchAway();
}

void Kernel::Thaw(Process* process) {
  process->is_frozen = false;
  process->frozen_for += now_ - process->frozen_at;
}

int Kernel::Start(std::function<void()> body, Process* process) {
  auto thread = std::make_unique<Thread>();
  thread->id = ++last_thread_;
  thread->process = process != nullptr ? process : running_->process;
  thread->fiber = std::make_unique<Fiber>([this, body = std::move(body)]() mutable {
    body();
    body = nullptr;
    Finish();
  });
  const int id = thread->id;
  threads_.push_back(std::move(thread));
  return id;
}

// The end of the running thread.
void Kernel::Finish() {
  Thread* const ended = running_;
  WakeAll(ended);
  const auto entry = std::find_if(threads_.begin(), threads_.end(),
                                  [&](const auto& thread) { return thread.get() == ended; });
  done_.push_back(std::move(*entry));
  threads_.erase(entry);
  if (threads_.empty()) {
    root_.SwitchFrom(ended->fiber.get(), /*is_last=*/true);
  } else {
    running_ = Choose();
    running_->fiber->SwitchFrom(ended->fiber.get(), /*is_last=*/true);
  }
  PC_CHECK(false) << "a thread has come back after its end";
  std::abort();
}

Thread* Kernel::Find(int id) const {
  for (const auto& thread : threads_) {
    if (thread->id == id) return thread.get();
  }
  return nullptr;
}

void Kernel::Join(int thread) {
  while (const Thread* joined = Find(thread)) Wait(joined);
}

bool Kernel::Wait(const void* key, Time deadline) {
  running_->key = key;
  running_->deadline = deadline;
  running_->is_blocked = true;
  running_->was_woken = false;
  SwitchAway();
  return running_->was_woken;
}

void Kernel::Sleep(Duration duration) { Wait(running_, now_ + duration); }

void Kernel::Yield() {
  if (options_.stall > 0 && random_.Chance(options_.stall)) {
    running_->not_before = now_ + random_.Between(Duration(0), kLongestStall);
    SwitchAway();
  } else if (random_.Chance(options_.preempt)) {
    SwitchAway();
  }
}

void Kernel::Unblock(Thread* thread, bool was_woken) {
  thread->is_blocked = false;
  thread->key = nullptr;
  thread->was_woken = was_woken;
}

void Kernel::WakeOne(const void* key) {
  candidates_.clear();
  for (const auto& thread : threads_) {
    if (thread->key == key) candidates_.push_back(thread.get());
  }
  if (!candidates_.empty()) Unblock(candidates_[random_.Below(candidates_.size())], true);
}

void Kernel::WakeAll(const void* key) {
  for (const auto& thread : threads_) {
    if (thread->key == key) Unblock(thread.get(), true);
  }
}

void Kernel::At(Time when, std::function<void()> work) {
  events_.push({std::max(when, now_), ++last_event_, std::move(work)});
}

void Kernel::RunDueEvents() {
  while (!events_.empty() && events_.top().when <= now_) {
    const std::function<void()> work = std::move(const_cast<Event&>(events_.top()).work);
    events_.pop();
    work();
  }
}

bool Kernel::MayRun(const Thread& thread) const {
  return !thread.process->is_frozen && thread.not_before <= now_;
}

// When something can happen again.
Time Kernel::NextTime() const {
  Time next = events_.empty() ? Time::max() : events_.top().when;
  for (const auto& thread : threads_) {
    if (thread->process->is_frozen) continue;
    const Time ready = thread->is_blocked ? thread->deadline : thread->not_before;
    next = std::min(next, std::max(ready, thread->not_before));
  }
  return next;
}

Thread* Kernel::Choose() {
  if (++steps_ > kMostSteps) GiveUp("it does not come to an end");
  now_ += kStep;
  while (true) {
    RunDueEvents();
    candidates_.clear();
    for (const auto& thread : threads_) {
      if (thread->is_blocked && thread->deadline <= now_) Unblock(thread.get(), false);
      if (!thread->is_blocked && MayRun(*thread)) candidates_.push_back(thread.get());
    }
    if (!candidates_.empty()) break;
    const Time next = NextTime();
    if (next == Time::max()) GiveUp("all threads wait, and nothing will wake them");
    now_ = std::max(now_, next);
  }
  Thread* const chosen =
      candidates_[candidates_.size() == 1 ? 0 : random_.Below(candidates_.size())];
  const auto now = static_cast<uint64_t>(now_.time_since_epoch().count());
  hash_ = sim::Mix(hash_ ^ now ^ (static_cast<uint64_t>(chosen->id) << 48));
  return chosen;
}

void Kernel::SwitchAway() {
  Thread* const from = running_;
  running_ = Choose();
  if (running_ == from) return;
  running_->fiber->SwitchFrom(from->fiber.get());
  done_.clear();
}

// Back to whoever called Run. What is on the threads' stacks is never destroyed.
void Kernel::GiveUp(const std::string& why) {
  failure_ = why;
  for (const auto& thread : threads_) {
    failure_ += "; thread " + std::to_string(thread->id) + " of " + thread->process->name +
                (thread->is_blocked ? " waits" : " runs");
  }
  root_.SwitchFrom(running_->fiber.get());
  std::abort();
}

}  // namespace packcast::rtsim
