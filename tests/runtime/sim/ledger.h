#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "protocol/byte_range.h"
#include "protocol/ids.h"
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
// What its handler does, besides taking its time.
enum class Act : uint8_t {
  kReply,
  kError,
  kThrow,
  kLater,   // answers from another thread
  kDrop,    // never answers
  kFail,    // fails its actor
  kNudge,   // sends its own actor a control message
  kBounce,  // sends its sender a message
  kSpawn,   // a child
  kTimer,
  kPost,
  kAwait,
};
inline constexpr size_t kActs = 12;
std::string_view ActName(Act act);

// One actor of one process, over all its lives.
struct Lineage {
  int id = 0;
  const Process* process = nullptr;
  std::string name;  // "host/actor"
  int most_at_once[kLanes] = {1, 1, 1, 3};
  bool shares_lane = true;  // control and default
  std::vector<Incarnation> lives;
  bool is_alive = false;   // between OnStart and OnStop
  bool is_ending = false;  // this life was told to end
  // Whether there was a reason to end so.
  bool may_die = false;
  bool is_linked = false;  // it ends when others do
  bool may_leave = false;
  int running[kLanes] = {};  // handlers
  // Control messages that wait, and how many others have begun since.
  std::map<int64_t, int> overtaking;
  // What this life has asked for: timers, and other things that must come.
  std::map<uint64_t, Time> timers;
  int expected = 0;
  Time began;  // its present life
  Time ended;  // its last one
  // Who has spawned it, and in which life, if that ends it.
  const Lineage* parent = nullptr;
  int parent_life = 0;

  int life() const { return static_cast<int>(lives.size()); }
};

// One message, and all that is known of it.
struct Job {
  int64_t id = 0;
  int caller = 0;
  const Process* by = nullptr;
  std::string to;  // "host/actor"
  Kind kind = Kind::kTell;
  Lane lane = Lane::kDefault;
  Act act = Act::kReply;
  Duration work{};
  size_t padding = 0;  // bytes that come with it
  Time sent;
  Time deadline;
  Duration frozen_before{};  // its caller, until it was sent
  // Whom the reference names; null: a life that never began.
  const Lineage* addressee = nullptr;
  // To an actor of the same process.
  Lineage* local = nullptr;
  int local_life = 0;  // whose mailbox has it; 0: it may be the next one's
  bool is_accepted = false;
  bool is_cancelled = false;
  bool is_refused = false;  // a tell
  std::optional<Status> result;
  const Lineage* where = nullptr;  // it ran
  int life = 0;

  ByteRange Padding() const { return Bytes(padding, static_cast<std::byte>(id)); }
};

// What was sent, what ran and what was said of it, and whether that is as docs/actors.md promises.
// What a process does after it was killed is not told here.
class Ledger {
 public:
  explicit Ledger(Kernel* kernel) : kernel_(kernel) {}

  Lineage* NewLineage(const Process* process, std::string name);
  // Whose life it is, once it has begun; else null.
  Lineage* LineageOf(const std::string& actor, Incarnation life) const;
  Job* NewJob(int caller, std::string to);
  Job* Find(int64_t id);

  // The callers' side: what is sent, to an actor of the same process or to another one, and that it
  // was handed over; what comes of it.
  void Sent(Job* job, Lineage* local);
  // `is_done`: it has a result already.
  void HandedOver(Job* job, bool is_done);
  void Cancelled(Job* job);
  void Refused(Job* job, const Status& status);
  void Resolved(Job* job, const StatusOr<int64_t>& result);
  // An order to end the actor of that name; from another process it comes some time.
  void Killed(const std::string& name, bool is_far);
  bool MayHaveDied(const Lineage& lineage) const;

  // The actors' side.
  void Started(Lineage* lineage, int life, Incarnation incarnation);
  void Failed(Lineage* lineage);
  void Stopped(Lineage* lineage);
  void Began(Job* job, Lineage* lineage, Lane lane);
  void Ended(Lineage* lineage, Lane lane);
  // `from` has linked itself to `to`.
  void Linked(Lineage* from, Lineage* to);
  // Messages of the same process that its default group has, in the present life.
  std::vector<int64_t> Waiting(const Lineage& lineage) const;
  // What should have come by now, when nothing is sent any more; or "".
  std::string WhatIsMissing() const;
  // After all has ended.
  void CheckEnd();

  // Calls of living processes without a result; of one process.
  size_t Open(const Process* process = nullptr) const;
  void Violated(const std::string& what);
  const std::string& violation() const { return violation_; }
  const std::deque<Job>& jobs() const { return jobs_; }
  const std::deque<Lineage>& lineages() const { return lineages_; }

 private:
  struct LinkOfTwo {
    const Lineage* from;
    const Lineage* to;
    int life;  // of the one that has made it
  };

  void CheckPlace(const Job& job, const Lineage& lineage, Lane lane);
  void CheckOrder(const Job& job, const Lineage& lineage, Lane lane);
  void CheckOverlap(const Lineage& lineage, Lane lane);
  void CheckOvertaking(const Job& job, Lineage* lineage, Lane lane);
  void CheckOutcome(const Job& job);
  bool HasOutlived(const Lineage& survivor, const Lineage& other) const;
  static void ForgetLife(Lineage* lineage);
  std::string Describe(const Job& job) const;

  Kernel* const kernel_;
  std::deque<Lineage> lineages_;
  std::map<std::pair<std::string, uint64_t>, Lineage*> lives_;
  std::deque<Job> jobs_;
  std::vector<LinkOfTwo> links_;
  std::set<std::string> killed_;
  std::set<std::string> killed_from_far_;
  // The last that began, of those that are not sent again.
  std::map<std::tuple<int, int, Lane>, int64_t> last_;
  std::string violation_;
};

}  // namespace packcast::rtsim
