#include "tests/bench/step_loop.h"

#include <algorithm>
#include <string>
#include <utility>

#include "runtime/base/clock.h"

namespace packcast::bench {

StepLoop::StepLoop(std::unique_ptr<Stepper> stepper)
    : stepper_(std::move(stepper)), thread_([this] { Run(); }) {}

StepLoop::~StepLoop() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void StepLoop::Run() {
  Status status = stepper_->Prepare();
  std::unique_lock lock(mutex_);
  prepared_ = true;
  status_ = status;
  changed_.notify_all();
  while (!ended_ && status_.ok()) {
    if (!wanted_) {
      changed_.wait(lock);
      continue;
    }
    running_ = true;
    lock.unlock();
    Step step;
    step.time.begin = Now();
    status = stepper_->Run(&step);
    step.time.end = Now();
    lock.lock();
    running_ = false;
    status_ = status;
    ++count_;
    steps_.push_back(step);
    changed_.notify_all();
  }
}

template <class Condition>
Status StepLoop::Await(std::unique_lock<std::mutex>* lock, Duration limit, Condition condition) {
  changed_.wait_for(*lock, limit, [&] { return !status_.ok() || condition(); });
  PC_RETURN_IF_ERROR(status_);
  if (condition()) return OkStatus();
  return DeadlineExceeded("a step takes longer than " + std::to_string(ToMilliseconds(limit)) +
                          " ms");
}

Status StepLoop::WaitPrepared(Duration limit) {
  std::unique_lock lock(mutex_);
  return Await(&lock, limit, [this] { return prepared_; });
}

void StepLoop::Resume() {
  std::lock_guard lock(mutex_);
  steps_.clear();
  wanted_ = true;
  changed_.notify_all();
}

Status StepLoop::WaitForStep(Duration limit) {
  std::unique_lock lock(mutex_);
  const uint64_t target = count_ + (running_ ? 2 : 1);
  return Await(&lock, limit, [&] { return count_ >= target; });
}

StatusOr<std::vector<Step>> StepLoop::Pause(Duration limit) {
  std::unique_lock lock(mutex_);
  wanted_ = false;
  PC_RETURN_IF_ERROR(Await(&lock, limit, [this] { return !running_; }));
  return std::exchange(steps_, {});
}

namespace {

// What two have in common; not positive if nothing.
Duration Common(const Interval& a, const Interval& b) {
  return std::min(a.end, b.end) - std::max(a.begin, b.begin);
}

}  // namespace

double StepsWithin(const std::vector<Step>& steps, const std::vector<Interval>& intervals) {
  double count = 0;
  for (const Step& step : steps) {
    for (const Interval& interval : intervals) {
      const Duration common = Common(step.time, interval);
      if (common.count() <= 0) continue;
      count += ToSeconds(common) / ToSeconds(step.time.length());
    }
  }
  return count;
}

Step LongestStep(const std::vector<Step>& steps, const Interval& interval) {
  Step longest;
  for (const Step& step : steps) {
    if (Common(step.time, interval).count() <= 0) continue;
    if (step.time.length() > longest.time.length()) longest = step;
  }
  return longest;
}

Duration Median(std::vector<Duration> durations) {
  if (durations.empty()) return Duration(0);
  const auto middle = durations.begin() + static_cast<std::ptrdiff_t>(durations.size() / 2);
  std::nth_element(durations.begin(), middle, durations.end());
  return *middle;
}

}  // namespace packcast::bench
