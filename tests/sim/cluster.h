#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/coordinator_shell.h"
#include "tests/sim/data_plane.h"
#include "tests/sim/member_shell.h"
#include "tests/sim/network.h"
#include "tests/sim/scenario.h"

namespace packcast::sim {

// Where a rank stands in its unit; the same in each of its lives.
struct Post {
  std::string name;
  Role role = Role::kWorker;
  std::string unit;
  uint32_t rank = 0;
  uint32_t size = 1;
  uint32_t number = 0;  // among those of its role
};

// A trainer of another unit, which is not there unless a nemesis starts it.
inline bool IsRival(const Post& post) { return post.unit == kRivalUnit; }

// A real process that ends by itself is started again by whoever watches over it.
inline constexpr Duration kRestart = Milliseconds(200);

// All processes of a cluster and what connects them, and the ways in which they fail.
class Cluster : public NetworkUser, public MemberOwner {
 public:
  // How a sync call ended: of this life of this rank.
  using OnFinished = std::function<void(MemberShell*, uint64_t label, const Status&)>;
  using OnWanted = std::function<void(MemberShell*, uint64_t label)>;

  Cluster(World* world, const Scenario& scenario, OnFinished finished, OnWanted wanted);

  // Who makes the trouble that comes with what happens here.
  class Trouble {
   public:
    virtual ~Trouble() = default;
    virtual void OnEarlyRoot() = 0;  // a root begins before Start
    virtual void OnEntered(Who who, const std::string& name, size_t state) = 0;
    virtual std::optional<Tear> TearOf(Who who, const std::string& name, size_t state,
                                       size_t effects) = 0;
    // Of a coordinator that has decided: so many of its effects from the first one on are commits.
    virtual std::optional<Tear> TearDecision(const std::string& name, size_t state, size_t first,
                                             size_t commits) = 0;
  };
  void SetTrouble(Trouble* trouble) { trouble_ = trouble; }

  // `on_catch_up` hears when one begins.
  void ListenForCatchUps(std::function<void()> on_catch_up) {
    on_catch_up_ = std::move(on_catch_up);
  }

  const std::vector<Post>& posts() const { return posts_; }
  // Null when it is down. With two lives of a name, the latest.
  MemberShell* Living(const std::string& name);
  // The one that members dial; null when it is down.
  CoordinatorShell* coordinator();
  bool HasTwoCoordinators() const;
  // The living ranks of the scenario's trainer, and a rival that has taken its place.
  std::vector<MemberShell*> Trainers();
  std::vector<MemberShell*> AllTrainers();

  void Kill(const std::string& name);
  void Start(const std::string& name);
  void KillCoordinator();
  void StartCoordinator();
  // The process is frozen, and its name is started again elsewhere: two lives, one a zombie.
  void Zombie(const std::string& name);
  // The same, but the first life is cut off and goes on; null if it is down. Until HealLife.
  Process* Twin(const std::string& name);
  void Freeze(const std::string& name, bool asleep);
  void Thaw(const std::string& name);
  // A trainer of another unit wants to take over, or does not any more.
  void SetRival(bool there);
  // Members reach another coordinator from now on, while the first one is cut off from these or,
  // if there are none, frozen. The first one; null if there is none to split off.
  Process* SplitBrain(const std::vector<std::string>& cut_off, bool one_way);
  // The first one is there again, beside the other.
  void Rejoin(Process* coordinator);
  // One of the two ends; if it was not `first`, members reach that again.
  void EndSplit(Process* first, bool ends_first);
  Network& network() { return network_; }
  DataPlane& data_plane() { return data_plane_; }
  // Something is wrong with `name` for so long from now: it may be blamed.
  void Fault(const std::string& name, Duration how_long);
  // Heals, thaws and starts everything, and injects no more.
  void Calm();

  // An epoch of that label was decided since then.
  bool DecidedSince(uint64_t label, Time since) const;
  // All living processes are joined, idle and know of nothing to do; empty, or what is not.
  std::string Unrest();
  // Every rank of every replica that takes part serves the coordinator's last committed version
  // and is in service; empty, or who is not.
  std::string Behind();

 private:
  void OnMemberMessage(Process* coordinator, Incarnation to, const MemberId& from,
                       MemberMessage message) override;
  void OnCoordinatorMessage(Process* member, Incarnation to, Incarnation from,
                            CoordinatorMessage message) override;
  void OnCoordinatorUp(Process* member, const Process* coordinator) override;
  void OnCoordinatorLost(Process* member, const std::string& cause) override;
  void OnMemberLost(Process* coordinator, const MemberId& member, const Status& cause) override;
  void OnMemberBack(Process* coordinator, const MemberId& member) override;
  void OnSyncFinished(MemberShell* shell, uint64_t label, const Status& status) override;
  void OnSyncRequested(MemberShell* shell, uint64_t label) override;
  void OnStop(MemberShell* shell, const std::string& reason) override;
  void OnEarlyRoot() override;
  void OnCatchUp() override {
    if (on_catch_up_) on_catch_up_();
  }
  void OnEntered(MemberShell* shell) override;
  void OnEntered(CoordinatorShell* shell) override;
  std::optional<Tear> TearOf(const MemberShell& shell, size_t effects) override;
  std::optional<Tear> TearOf(const CoordinatorShell& shell, size_t effects, size_t first_commit,
                             size_t commits) override;
  void OnTorn(Process* process, bool freezes) override;
  void OnCoordinatorStop(Process* coordinator) override;
  // What S2 promises of replicas: when a committed epoch ends, each replica that its report lists
  // has all its ranks in service at that version. One that is not listed (it lost a rank, an
  // install failed, a rank's session broke between its Staged and its Commit) may be mixed or
  // partly out of service, as the coordinator's `members` shows, until the next committed epoch,
  // which lists it if it is complete: Behind() checks that at the end.
  const std::string& UnitOf(const std::string& name) const override;
  void OnCommitted(const CoordinatorShell& shell, const Value& report) override;
  void OnCaughtUp(const CoordinatorShell& shell, const Value& report) override;
  // How many ranks of each replica are listed; each of them must serve that version.
  std::map<std::string, uint32_t> CheckListed(const CoordinatorShell& shell, const Value& report);
  void CheckServes(const CoordinatorShell& coordinator, const Member& member,
                   const std::string& version);

  // S6: a message of an earlier attempt must have no effect; nor must one that answers twice. No
  // transport repeats a question of the present attempt.
  template <class Message>
  bool Echoes(const Message& message);
  Duration EchoDelay() { return world_->random.Between(Microseconds(10), Milliseconds(40)); }
  MemberConfig ConfigOf(const Post& post, const Process& process);
  MemberShell* ShellOf(const Process* process);
  CoordinatorShell* CoordinatorOf(const Process* process);
  void KillProcess(Process* process);
  void FreezeProcess(Process* process, bool asleep);
  void BeginCoordinator();
  // A collective of a lazy trainer's ranks can never end: their program ends them, or an earlier
  // life of one that waits.
  void EndTrainers(Process* earlier);
  // What a coordinator of whom a member has turned away may still say to it.
  bool IsHeard(const MemberShell& shell, Incarnation from, const CoordinatorMessage& message);

  World* const world_;
  const Scenario scenario_;
  OnFinished finished_;
  OnWanted wanted_;
  std::function<void()> on_catch_up_;
  Trouble* trouble_ = nullptr;
  Network network_;
  DataPlane data_plane_;
  Truth truth_;
  Surroundings around_;
  std::vector<Post> posts_;
  std::deque<MemberShell> members_;  // all lives, in order of birth
  std::deque<CoordinatorShell> coordinators_;
  bool has_rival_ = false;
  CoordinatorShell* owner_ = nullptr;  // of the address that members dial
};

}  // namespace packcast::sim
