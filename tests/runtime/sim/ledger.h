#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "protocol/status.h"
#include "protocol/time.h"
#include "tests/runtime/sim/kernel.h"

namespace packcast::rtsim {

// How a message is sent.
enum class Kind : uint8_t { kTell, kCall, kIdempotent };
// In which queue of its actor it waits.
enum class Lane : uint8_t { kDefault, kControl, kSingle, kWide };
inline constexpr size_t kLanes = 4;
std::string_view LaneName(Lane lane);
// What its handler does.
enum class Act : uint8_t { kReply, kError, kThrow, kLater, kDrop, kFail, kNudge };
std::string_view ActName(Act act);

// One actor of one process, over all its lives.
struct Lineage {
  int id = 0;
  const Process* process = nullptr;
  std::string name;
  int most_at_once[kLanes] = {1, 1, 1, 3};
  bool shares_lane = true;  // control and default
  // What runs now.
  int running[kLanes] = {};
  int life = 0;
  bool is_alive = false;  // between OnStart and OnStop
};

// One message, and all that is known of it.
struct Job {
  int64_t id = 0;
  int caller = 0;
  const Process* by = nullptr;
  std::string to;
  Kind kind = Kind::kTell;
  Lane lane = Lane::kDefault;
  Act act = Act::kReply;
  Duration work{};
  size_t padding = 0;
  Time sent;
  Time deadline;
  Duration frozen_before{};  // its caller, until it was sent
  bool is_refused = false;   // a tell
  std::optional<Status> result;
  const Lineage* where = nullptr;  // it ran
  int life = 0;
  Time began;
};

// What was sent, what ran and what was said of it, and whether that is as docs/actors.md promises.
// What a process does after it was killed is not told here.
class Ledger {
 public:
  explicit Ledger(Kernel* kernel) : kernel_(kernel) {}

  Lineage* NewLineage(const Process* process, std::string name);
  Job* NewJob(int caller, std::string to);
  Job* Find(int64_t id);

  // The callers' side.
  void Sent(Job* job);
  void Told(Job* job, const Status& status);
  void Resolved(Job* job, const StatusOr<int64_t>& result);
  // The actors' side.
  void Started(Lineage* lineage, int life);
  void Stopped(Lineage* lineage);
  void Began(Job* job, Lineage* lineage, Lane lane);
  void Ended(Job* job, Lineage* lineage, Lane lane);
  // After all has ended.
  void CheckEnd();

  // Calls of living processes without a result.
  size_t Open() const;
  void Violated(const std::string& what);
  const std::string& violation() const { return violation_; }
  const std::deque<Job>& jobs() const { return jobs_; }

 private:
  void CheckOrder(const Job& job, const Lineage& lineage, Lane lane);
  void CheckOverlap(const Lineage& lineage, Lane lane);
  void CheckOutcome(const Job& job);
  std::string Describe(const Job& job) const;

  Kernel* const kernel_;
  std::deque<Lineage> lineages_;
  std::deque<Job> jobs_;
  // The last that began, of those that are not sent again.
  std::map<std::tuple<int, int, Lane>, int64_t> last_;
  std::string violation_;
};

}  // namespace packcast::rtsim
