#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "tests/sim/cluster.h"

namespace packcast::sim {

// The trainer's program and an operator: sync calls on all trainer ranks alike, with deadlines,
// second calls, supersedes and cancels; limits, drains and syncs by control. Checks S8 and L2.
class User {
 public:
  User(World* world, const Scenario& scenario, uint64_t seed)
      : world_(world), scenario_(scenario), random_(seed) {}

  void Attach(Cluster* cluster) { cluster_ = cluster; }
  // `on_call` hears of every sync call while the scenario's calls are made.
  void Listen(std::function<void()> on_call) { on_call_ = std::move(on_call); }
  // Makes the scenario's calls, one after another.
  void Begin();
  // Now and then one more, in the middle of a catch-up.
  void OnCatchUp();
  // Makes no more.
  void Stop() { calls_left_ = 0; }

  // A sync on all trainer ranks now. True when every rank's call resolved as OK.
  void SyncNow();
  bool SyncedAll() const { return results_ok_ > 0 && results_ok_ == results_wanted_; }
  bool SyncResolved() const { return results_ == results_wanted_; }

  // Calls that nobody has resolved although their process lives.
  std::string Open() const;
  const std::string& last_error() const { return last_error_; }

  void OnFinished(MemberShell* shell, uint64_t label, const Status& status);
  void OnWanted(MemberShell* shell, uint64_t label);
  // Undoes what control calls have changed.
  void ReadmitAll();

 private:
  void NextCall();
  void CallAll(uint64_t label, bool supersede);
  void CallOne(MemberShell* shell, uint64_t label, size_t model, bool supersede);
  void ControlSomething();
  void ControlSync(CoordinatorShell* coordinator);

  World* const world_;
  const Scenario& scenario_;
  Random random_;
  Cluster* cluster_ = nullptr;
  std::function<void()> on_call_;
  uint32_t calls_left_ = 0;
  uint64_t last_label_ = 0;
  size_t model_ = 0;
  struct OpenCall {
    Time began;
    Time deadline;
  };
  std::map<std::pair<MemberShell*, uint64_t>, OpenCall> open_;
  uint64_t watched_label_ = 0;
  size_t results_wanted_ = 0;
  size_t results_ = 0;
  size_t results_ok_ = 0;
  std::string last_error_;
};

}  // namespace packcast::sim
