#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "protocol/status.h"
#include "protocol/time.h"

// A loop of steps on a thread of its own, whose rate is measured, and the arithmetic on its steps.
namespace packcast::bench {

// A stretch of the steady clock, which all processes of a host share.
struct Interval {
  Time begin{};
  Time end{};
  Duration length() const { return end - begin; }
};

// One turn, and what its thread spent it on. Travels between processes as it is.
struct Step {
  Interval time;
  Duration launch{};
  Duration wait{};
  Duration churn{};
};
static_assert(std::is_trivially_copyable_v<Step>);

// What the loop does. Used by its thread only.
class Stepper {
 public:
  virtual ~Stepper() = default;
  // Called once, before the first step.
  virtual Status Prepare() = 0;
  // Fills in all of `step` but its time.
  virtual Status Run(Step* step) = 0;
  // Of weights that a step reads.
  virtual uint64_t bytes() const = 0;
};

// Runs steps between Resume and Pause, one after another. Prepares at once. One user.
class StepLoop {
 public:
  explicit StepLoop(std::unique_ptr<Stepper> stepper);
  // Ends after the step that runs.
  ~StepLoop();

  // Waits until it is prepared. Errors: the stepper's, or kDeadlineExceeded.
  Status WaitPrepared(Duration limit);
  void Resume();
  // Waits for a step that begins from now on and ends. Errors: as WaitPrepared.
  Status WaitForStep(Duration limit);
  // Stops after the step that runs: all steps since Resume. Errors: as WaitPrepared.
  StatusOr<std::vector<Step>> Pause(Duration limit);

 private:
  void Run();
  template <class Condition>
  Status Await(std::unique_lock<std::mutex>* lock, Duration limit, Condition condition);

  const std::unique_ptr<Stepper> stepper_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool prepared_ = false;
  bool wanted_ = false;
  bool running_ = false;  // inside a step
  bool ended_ = false;
  uint64_t count_ = 0;
  std::vector<Step> steps_;
  Status status_;
  std::thread thread_;  // last
};

// Steps in `intervals`, a step that is partly in one counting in part. Both lists are in order and
// their items apart.
double StepsWithin(const std::vector<Step>& steps, const std::vector<Interval>& intervals);

// Of those that touch `interval`; a zero one if there are none.
Step LongestStep(const std::vector<Step>& steps, const Interval& interval);

// The middle one, the upper of two; 0 of none.
Duration Median(std::vector<Duration> durations);

}  // namespace packcast::bench
