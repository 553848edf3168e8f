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
#include "tests/sim/coverage.h"
#include "tests/sim/random.h"
#include "tests/sim/trace.h"

namespace packcast::sim {

// Bugs put into the shells on purpose: the invariants must find each (mutation_test.cc).
enum class Mutation : uint8_t {
  kNone,
  kCommitOneStagedEarly,   // the coordinator is told that the last voters have staged
  kAbortIgnored,           // a worker confirms aborts and streams on
  kStaleStagedAccepted,    // Staged of an earlier attempt counts for the present one
  kGenerationReused,       // a rendezvous blob is handed out twice
  kWriteBeforeQuiesce,     // the engine is said to be quiet while it runs
  kSourceFreeAtStreamEnd,  // the trainer changes its weights once they are sent
  kInstallSkipped,         // a worker says Installed and kept its old bytes
  kTermNotRaised,          // members do not tell a new coordinator what they promised
  kAnswerLost,             // a sync.done never reaches the trainer
  kExpelledForgotten,      // a member is not told that it is out
  kInnocentAccused,        // who loses a peer of the transfer names another
  kShutdownForgotten,      // the coordinator goes on for ever once it was asked to stop
  kGenerationKept,         // members stream over an old generation of the same transport and root
  kAbortClosesOneFlow,     // a member that gives up stops one of its flows
  kStagedAfterFirstFlow,   // a worker says Staged when the first of its flows is through
  kEarlyWithoutGrants,     // a root launches what not all members have granted
  kRelayWithoutGrants,     // a rank of a chain passes on what the next one has not granted
  kRelayGrantsTooEarly,    // and grants a buffer that the next one still reads
  kGrantsOfLastStream,     // grants do not name their attempt: the last one's count for the next
  kStaleStagedEarly,       // as kStaleStagedAccepted, for who is prepared and streams before Start
  kRowInNoFlow,            // a contract's flows do not carry the last row
  kRowInTwoFlows,          // flows of several roots carry the last row
  kCatchUpTakenForEpoch,   // who catches up thinks that it gets a new version
  kCopyWrittenOver,        // a provider sends other bytes than it serves, and nobody looks
  kCatchUpForgotten,       // the coordinator is not reminded of those that are behind
};

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
  std::array<uint64_t, kFaults> faults{};
  Coverage coverage;
};

// One life of a program.
struct Process {
  std::string name;
  Incarnation incarnation;
  bool alive = true;
  bool frozen = false;
  Time frozen_since{};
  int64_t slowness = 1;
  std::vector<std::function<void()>> late;  // became due while frozen
};

// The clock, what is due, chance and the trace: everything in one thread.
class World {
 public:
  World(uint64_t seed, Mutation mutation, bool record)
      : random(seed), trace(record), mutation_(mutation) {}
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Time now() const { return now_; }
  Mutation mutation() const { return mutation_; }

  Process* Spawn(const std::string& name);
  // Runs `what` then; on a process only if it lives, and when it is frozen, once it thaws.
  void After(Duration delay, std::function<void()> what);
  void After(Process* process, Duration delay, std::function<void()> what);
  // Local work of a process takes a while, longer if it is slow.
  Duration Work(Process* process, Duration low, Duration high);
  void Freeze(Process* process);
  void Thaw(Process* process);

  // Runs until `until` (or nothing is left), or until `done` says so. False after a violation.
  bool RunUntil(Time until, const std::function<bool()>& done = nullptr);

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
  Time now_{};
  uint64_t sequence_ = 0;
  uint64_t incarnations_ = 0;
  std::vector<Due> due_;  // a heap
  std::deque<Process> processes_;
  std::string violation_;
};

}  // namespace packcast::sim
