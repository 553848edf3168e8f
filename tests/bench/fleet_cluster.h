#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "actors/coordinator.h"
#include "protocol/time.h"
#include "protocol/value.h"
#include "runtime/actor/runtime.h"
#include "tests/bench/crew.h"
#include "tests/bench/fleet_flags.h"
#include "tests/bench/fleet_trainer.h"

namespace packcast::bench {

// Epochs one after another with the same members: the first one, and those after it, sorted.
struct Series {
  int workers = 0;
  std::string transport;
  double bytes = 0;
  double first = 0;  // seconds
  std::vector<double> seconds;

  double median() const { return seconds[seconds.size() / 2]; }
};

// An epoch that lost a worker in mid-transfer.
struct Loss {
  double seconds = 0;  // from the kill to the return of the trainer's Sync, which was committed
  double killed_after = 0;  // seconds from the call of Sync to the kill
  uint64_t bytes_left = 0;  // had left the trainer by then
  uint64_t attempt = 0;     // that was committed
  std::string expelled;     // "replica-3, by worker-3: why"
  std::string phases;       // of the coordinator, both attempts, in milliseconds
};

// A coordinator and a trainer rank in this process, and a worker or a further trainer rank in each
// of the crew's. After each epoch
// what all workers hold is compared with what the trainer sent. Errors end the process.
class FleetCluster {
 public:
  // Until all workers are in.
  FleetCluster(const FleetFlags& flags, const std::string& install, const std::string& list,
               Crew* crew);
  // The workers leave, and give their memory back.
  ~FleetCluster();

  // Epochs with so many workers. Other weights than in the series before.
  Series Run(int workers, int repeats);
  // An epoch in whose middle the process of this rank is killed. Nobody else may be missing.
  Loss RunWithLoss(int rank);
  // The first epoch after a loss counts as the first of the survivors' series.
  Series RunSurvivors(const Loss& loss, int repeats);
  // A killed process is started again, and its worker is in.
  void Replace(int rank);

 private:
  void OnEvent(const Value& event);
  void TellToJoin(int rank);
  void AwaitJoined(const std::string& name);
  // Those of the crew that are trainer ranks.
  void TellTrainers(const std::string& what);
  void Refill();
  double Sync(int workers);
  void CheckReport(int workers);
  void Measure(int repeats, Series* series);

  const FleetFlags& flags_;
  Crew* const crew_;
  std::mutex mutex_;  // guards the next two
  std::condition_variable changed_;
  std::set<std::string> joined_;
  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<FleetTrainer> trainer_;
  uint64_t label_ = 0;
  uint64_t refills_ = 0;
  Value report_;
  std::string digest_;       // of the last epoch
  std::string last_digest_;  // of the weights before these
};

}  // namespace packcast::bench
