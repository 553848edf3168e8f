#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <queue>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/ids.h"
#include "protocol/time.h"
#include "tests/sim/clock.h"
#include "tests/sim/coverage.h"
#include "tests/sim/mutation.h"
#include "tests/sim/random.h"
#include "tests/sim/trace.h"

namespace packcast::sim {

struct Stats {
  uint64_t events = 0;
  uint64_t messages = 0;
  uint64_t messages_lost = 0;
  uint64_t stale_dropped = 0;  // by the check of incarnations
  uint64_t committed = 0;
  uint64_t aborted = 0;
  uint64_t retries = 0;
  uint64_t several_flows = 0;   // attempts, as the first trainer rank prepares them
  uint64_t partly_reused = 0;   // of those: some generations are reused, and some are new
  uint64_t early = 0;           // streams that begin before Start
  uint64_t early_given_up = 0;  // of those: attempts given up by a member that had begun
  uint64_t staged_early = 0;    // Staged that comes before all are prepared
  uint64_t staged_crossed = 0;  // Staged of an attempt told ahead that crosses its abort
  uint64_t caught_up = 0;       // catch-ups that were committed
  uint64_t not_caught_up = 0;   // and that were not
  uint64_t decided_alone = 0;   // replicas before others (policy each)
  uint64_t foreign = 0;         // messages of a coordinator whose session is over
  uint64_t zombies = 0;         // messages of a life that was superseded
  uint64_t replayed = 0;        // messages that came twice because a connection broke
  uint64_t rivals = 0;          // epochs of two coordinators that lived at once
  uint64_t takeovers = 0;       // by another trainer unit
  uint64_t lazy_drains = 0;     // aborts in which ranks of a lazy trainer had to gather on
  // Coordinators that were torn while they told of a decision: before the first commit was sent,
  // between two of them, after the last.
  std::array<uint64_t, 3> decisions_torn{};
  std::array<uint64_t, kFaults> faults{};
  Coverage coverage;

  void Add(const Stats& other);
};

// One life of a program.
struct Process {
  std::string name;
  Incarnation incarnation;
  bool alive = true;
  bool frozen = false;
  Time frozen_since{};
  bool asleep = false;  // frozen, and its clock too
  int64_t slowness = 1;
  Clock clock;
  std::vector<std::function<void()>> unfinished;  // steps that it was frozen in
  std::vector<std::function<void()>> late;        // became due while frozen
};

// The clock, what is due, chance and the trace: everything in one thread.
class World {
 public:
  // `only`: of the faults, which are numbered as they come up, those that are to happen.
  World(uint64_t seed, Mutation mutation, size_t lines, const std::vector<uint32_t>* only)
      : random(seed), trace(lines), mutation_(mutation), only_(only) {}
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Time now() const { return now_; }
  Mutation mutation() const { return mutation_; }

  // Its clock is up to `drift` of a thousand fast or slow, if that is not 0, and begins anywhere.
  Process* Spawn(const std::string& name, int64_t drift);
  // Runs `what` then; on a process only if it lives, and when it is frozen, once it thaws.
  void After(Duration delay, std::function<void()> what);
  void After(Process* process, Duration delay, std::function<void()> what);
  // After so long by its own clock, or soon.
  void Timer(Process* process, Duration delay, std::function<void()> what) {
    After(process, process->clock.ToWorld(delay), std::move(what));
  }
  Time LocalNow(const Process* process) const { return process->clock.Read(now_); }
  // Local work of a process takes a while, longer if it is slow.
  Duration Work(Process* process, Duration low, Duration high);
  void Freeze(Process* process, bool asleep);
  void Thaw(Process* process);

  // Runs until `until` (or nothing is left), or until `done` says so. False after a violation.
  bool RunUntil(Time until, const std::function<bool()>& done = nullptr);

  // Whether the next fault is to happen. To be asked for each, whatever becomes of it.
  bool MayInject(Fault fault, const std::string& name);
  const std::vector<uint32_t>& injected() const { return injected_; }  // numbers
  void Injected(Fault fault) { ++stats.faults[static_cast<size_t>(fault)]; }
  // The same, at somebody in that state.
  void Injected(Fault fault, Who who, size_t state) {
    Injected(fault);
    stats.coverage.Met(fault, who, state);
  }
  // The first one counts, and ends the run.
  void Violate(const std::string& what);
  const std::string& violation() const { return violation_; }

  Random random;
  Trace trace;
  Stats stats;

 private:
  struct Due {
    Time at;
    uint64_t sequence;
    std::function<void()> what;
  };
  struct Later {
    bool operator()(const Due& a, const Due& b) const {
      return a.at != b.at ? a.at > b.at : a.sequence > b.sequence;
    }
  };

  const Mutation mutation_;
  const std::vector<uint32_t>* const only_;  // null: all
  uint32_t faults_ = 0;
  std::vector<uint32_t> injected_;
  Time now_{};
  uint64_t sequence_ = 0;
  uint64_t incarnations_ = 0;
  std::vector<Due> due_;  // a heap
  std::deque<Process> processes_;
  std::string violation_;
};

}  // namespace packcast::sim
