#pragma once

#include <deque>
#include <map>
#include <memory>
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

// All processes of a cluster and what connects them, and the ways in which they fail.
class Cluster : public NetworkUser, public MemberOwner {
 public:
  // How a sync call ended: of this life of this rank.
  using OnFinished = std::function<void(MemberShell*, uint64_t label, const Status&)>;
  using OnWanted = std::function<void(MemberShell*, uint64_t label)>;

  Cluster(World* world, const Scenario& scenario, OnFinished finished, OnWanted wanted);

  // `on_early_root` hears when a root begins before Start, `on_brief_state` when a member of that
  // name enters a state that it soon leaves.
  void Listen(std::function<void()> on_early_root,
              std::function<void(const std::string& name)> on_brief_state) {
    on_early_root_ = std::move(on_early_root);
    on_brief_state_ = std::move(on_brief_state);
  }

  // `on_catch_up` hears when one begins.
  void ListenForCatchUps(std::function<void()> on_catch_up) {
    on_catch_up_ = std::move(on_catch_up);
  }

  const std::vector<Post>& posts() const { return posts_; }
  // Null when it is down. With two lives of a name, the latest.
  MemberShell* Living(const std::string& name);
  CoordinatorShell* coordinator();
  std::vector<MemberShell*> Trainers();

  void Kill(const std::string& name);
  void Start(const std::string& name);
  void KillCoordinator();
  void StartCoordinator();
  // The process is frozen, and its name is started again elsewhere: two lives, one a zombie.
  void Twin(const std::string& name);
  void Freeze(const std::string& name);
  void Thaw(const std::string& name);
  Network& network() { return network_; }
  // Something is wrong with `name` for so long from now: it may be blamed.
  void Fault(const std::string& name, Duration how_long);
  // Heals, thaws and starts everything, and injects no more.
  void Calm();

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
  void OnCoordinatorUp(Process* member) override;
  void OnCoordinatorLost(Process* member, const std::string& cause) override;
  void OnMemberLost(Process* coordinator, const MemberId& member, const Status& cause) override;
  void OnMemberBack(Process* coordinator, const MemberId& member) override;
  void OnSyncFinished(MemberShell* shell, uint64_t label, const Status& status) override;
  void OnSyncRequested(MemberShell* shell, uint64_t label) override;
  void OnStop(MemberShell* shell, const std::string& reason) override;
  void OnEarlyRoot() override;
  void OnBriefState(MemberShell* shell) override;
  void OnCatchUp() override {
    if (on_catch_up_) on_catch_up_();
  }
  void OnCoordinatorStop(Process* coordinator) override;
  // What S2 promises of replicas: when a committed epoch ends, each replica that its report lists
  // has all its ranks in service at that version. One that is not listed (it lost a rank, an
  // install failed, a rank's session broke between its Staged and its Commit) may be mixed or
  // partly out of service, as the coordinator's `members` shows, until the next committed epoch,
  // which lists it if it is complete: Behind() checks that at the end.
  void OnCommitted(const Value& report) override;

  // S6: a message of an earlier attempt must have no effect; nor must one that answers twice. No
  // transport repeats a question of the present attempt.
  template <class Message>
  bool Echoes(const Message& message);
  Duration EchoDelay() { return world_->random.Between(Microseconds(10), Milliseconds(40)); }
  MemberConfig ConfigOf(const Post& post, const Process& process);
  MemberShell* ShellOf(const Process* process);
  CoordinatorShell* CoordinatorOf(const Process* process);
  void KillProcess(Process* process);

  World* const world_;
  const Scenario scenario_;
  OnFinished finished_;
  OnWanted wanted_;
  std::function<void()> on_early_root_;
  std::function<void()> on_catch_up_;
  std::function<void(const std::string& name)> on_brief_state_;
  Network network_;
  DataPlane data_plane_;
  Truth truth_;
  Surroundings around_;
  std::vector<Post> posts_;
  std::deque<MemberShell> members_;  // all lives, in order of birth
  std::deque<CoordinatorShell> coordinators_;
};

}  // namespace packcast::sim
