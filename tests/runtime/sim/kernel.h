#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/time.h"
#include "tests/runtime/sim/fiber.h"
#include "tests/sim/random.h"
#include "tests/sim/trace.h"

namespace packcast::rtsim {

using sim::Random;
using sim::Trace;

// A simulated process: what its threads are called, and whether they may run.
struct Process {
  int id = 0;
  std::string name;
  bool is_dead = false;    // killed: what it still does counts for nothing
  Time gone_at;            // it was killed then, or has ended
  bool is_frozen = false;  // stopped, for a while
  // Said by who runs it: it shuts down in order; a later one has its name.
  bool is_leaving = false;
  bool is_replaced = false;
  Time frozen_at;
  Duration frozen_for{};  // all in all, up to the last thaw
};

// A thread of a simulated process.
struct Thread {
  int id = 0;
  Process* process = nullptr;
  std::unique_ptr<Fiber> fiber;
  bool is_blocked = false;
  bool was_woken = false;
  const void* key = nullptr;  // what it waits for, while it is blocked
  Time deadline;              // of that
  Time not_before;            // the system has given its processor to others until then
};

class Descriptors;

struct KernelOptions {
  uint64_t seed = 1;
  bool record = false;
  // How likely a thread loses its processor where it could, and that for a while.
  double preempt = 0.02;
  double stall = 0.0;
};

// What the runtime runs on: threads, locks, time, and chance. One thread runs at a time; which one,
// and for how long, the seed decides. Time passes when all wait. libc.cc puts it beneath the
// runtime.
class Kernel {
 public:
  explicit Kernel(const KernelOptions& options);
  ~Kernel();

  // The one that runs; null outside of a simulation.
  static Kernel* Current() { return current_; }

  // Runs `main` as the first thread, and all that comes of it. Returns why it could not go on to
  // its end ("": it did).
  std::string Run(std::function<void()> main);

  Time now() const { return now_; }
  Random& random() { return random_; }
  Descriptors& descriptors() { return *descriptors_; }
  Trace& trace() { return trace_; }
  uint64_t steps() const { return steps_; }
  // Of all that happened, in order: two runs of a seed must agree.
  uint64_t hash() const { return sim::Mix(hash_ ^ trace_.hash()); }
  template <class Text>
  void Note(std::string_view who, std::string_view what, uint64_t number, Text text) {
    trace_.Add(now_, who, what, number, text);
  }

  Process* NewProcess(std::string name);
  // Its threads run no more until Thaw.
  void Freeze(Process* process);
  void Thaw(Process* process);
  Process* process() const { return running_->process; }

  // A thread of `process`, or of the caller's.
  int Start(std::function<void()> body, Process* process = nullptr);
  void Join(int thread);
  int self() const { return running_->id; }

  // The caller waits until Wake(key), or the deadline: then false.
  bool Wait(const void* key, Time deadline = Time::max());
  void WakeOne(const void* key);
  void WakeAll(const void* key);
  void Sleep(Duration duration);
  // Others may run here.
  void Yield();

  // Runs `work` at that time, on whatever stack; it must not wait.
  void At(Time when, std::function<void()> work);

 private:
  struct Event {
    Time when;
    uint64_t number;
    std::function<void()> work;
    friend bool operator>(const Event& a, const Event& b) {
      return a.when != b.when ? a.when > b.when : a.number > b.number;
    }
  };

  Thread* Choose();
  void SwitchAway();
  void RunDueEvents();
  bool MayRun(const Thread& thread) const;
  Time NextTime() const;
  void Finish();
  [[noreturn]] void GiveUp(const std::string& why);
  Thread* Find(int id) const;
  static void Unblock(Thread* thread, bool was_woken);

  static Kernel* current_;

  const KernelOptions options_;
  Random random_;
  Trace trace_;
  Time now_;
  uint64_t steps_ = 0;
  uint64_t hash_ = 0;
  std::string failure_;
  std::unique_ptr<Descriptors> descriptors_;
  Fiber root_;
  std::vector<std::unique_ptr<Thread>> threads_;  // those that are not done, by id
  std::vector<std::unique_ptr<Thread>> done_;     // whose stacks are free once we are off them
  std::vector<std::unique_ptr<Process>> processes_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  uint64_t last_event_ = 0;
  int last_thread_ = 0;
  Thread* running_ = nullptr;
  std::vector<Thread*> candidates_;
};

}  // namespace packcast::rtsim
