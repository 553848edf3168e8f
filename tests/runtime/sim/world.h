#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/actor/runtime.h"
#include "tests/runtime/sim/kernel.h"
#include "tests/runtime/sim/ledger.h"
#include "tests/runtime/sim/network.h"

namespace packcast::rtsim {

// How an actor of the simulation is made.
struct ServantPlan {
  std::string name;
  int concurrency = 1;
  bool concurrent_control = false;
  size_t window = 65'536;
  RestartOptions restart;
};

// What one seed is about.
struct Scenario {
  std::vector<std::string> hosts;
  std::vector<ServantPlan> servants;  // of each host
  int callers = 2;                    // actors of each host that send, beside its main thread
  RuntimeOptions options;
  Duration faults{};     // how long there are any
  Duration pause_max{};  // between what a caller sends
  int burst_max = 8;     // at once
  double failing = 0.0;  // how many handlers fail their actor
  double slow = 0.1;     // how many take long
  size_t padding_max = 0;
};
Scenario MakeScenario(Random* random);

class Life;

// All that a run consists of.
struct World {
  World(const KernelOptions& options, const Weather& weather)
      : kernel(options), network(&kernel, weather), ledger(&kernel), random(~options.seed) {}

  Kernel kernel;
  Network network;
  Ledger ledger;
  Random random;
  Scenario scenario;
  // The last life of each host.
  std::map<std::string, std::shared_ptr<Life>> lives;
  int last_caller = 0;
  bool is_quiet = false;  // callers send no more
};

// One life of a simulated process: its main thread, which has a runtime, makes its actors, and
// sends messages until it is told to end.
class Life : public std::enable_shared_from_this<Life> {
 public:
  Life(World* world, std::string host);
  static std::shared_ptr<Life> Begin(World* world, const std::string& host);

  // From other threads. The end is in order, or of a killed process.
  void Order(std::function<void(Life&)> work);
  void End(bool is_killed);
  void Join();

  const std::string& host() const { return host_; }
  Process* process() const { return process_; }
  Runtime& runtime() { return *runtime_; }
  World& world() { return *world_; }
  bool is_over() const { return is_over_; }
  static std::string EndpointOf(const std::string& host);

 private:
  void Main();
  void SpawnServants();

  World* const world_;
  const std::string host_;
  Process* process_ = nullptr;
  int thread_ = 0;
  std::unique_ptr<Runtime> runtime_;
  std::deque<std::function<void(Life&)>> orders_;
  bool is_over_ = false;
};

}  // namespace packcast::rtsim
