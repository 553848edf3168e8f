#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/actor/runtime.h"
#include "tests/runtime/sim/kernel.h"
#include "tests/runtime/sim/ledger.h"
#include "tests/runtime/sim/network.h"
#include "tests/runtime/sim/watches.h"

namespace packcast::rtsim {

// How an actor of the simulation is made.
struct ServantPlan {
  std::string name;
  int concurrency = 1;
  bool concurrent_control = false;
  size_t window = 65'536;
  RestartOptions restart;
  bool sends = false;
  bool links = false;
};

// What one seed is about.
struct Scenario {
  std::vector<std::string> hosts;
  std::vector<ServantPlan> servants;  // of each host
  RuntimeOptions options;
  Duration faults{};       // how long there are any
  bool has_faults = true;  // between processes
  Duration pause_max{};    // between what a caller sends
  int64_t burst_max = 8;   // at once
  double failing = 0.0;    // how many of the handlers that might fail their actor do
  double killing = 0.0;    // how many turns of a caller kill an actor instead
  double stopping = 0.0;   // how many of a main thread stop one
  double flooding = 0.0;   // how many fill the window to an actor
  double slow = 0.1;       // how many handlers take long
  size_t padding_max = 0;
};
Scenario MakeScenario(Random* random);

class Life;

// All that a run consists of.
struct World {
  World(const KernelOptions& options, const Weather& weather)
      : kernel(options),
        network(&kernel, weather),
        ledger(&kernel),
        watches(&kernel, &ledger),
        random(~options.seed) {}

  std::string EndpointOf(const std::string& host) const;
  // Ends a life in order, and begins another one if it is the last of its host.
  void Supervise(std::shared_ptr<Life> life);
  // Waits for the ends, and beginnings, that are under way.
  void JoinSupervised();

  Kernel kernel;
  Network network;
  Ledger ledger;
  Watches watches;
  Random random;
  Scenario scenario;
  // The last life of each host.
  std::map<std::string, std::shared_ptr<Life>> lives;
  std::vector<int> supervisors;  // threads
  Process* outside = nullptr;    // of the simulation's own threads
  int last_caller = 0;
  int floods = 0;
  int last_port = 7000;
  bool is_quiet = false;   // nobody sends or does harm any more
  bool is_ending = false;  // nor begins
  // Hosts that have had two lives at once: either may be told that the other one counts.
  std::set<std::string> twins;
};

// One life of a simulated process: its main thread, which has a runtime, makes its actors, and
// sends messages until it is told to end.
class Life : public std::enable_shared_from_this<Life> {
 public:
  Life(World* world, std::string host, std::string endpoint);
  // At the endpoint of the host's life before, if it may.
  static std::shared_ptr<Life> Begin(World* world, const std::string& host, bool at_same_endpoint);

  // From other threads. The end is in order, or of a killed process.
  // False: too late, it has ended.
  bool Order(std::function<void(Life&)> work);
  // Its runtime says that another process has its name. It ends, and if it was the last one of its
  // host another one begins.
  void OnReplaced();
  void End(bool is_killed);
  void Join();
  // On its own thread: makes the actors that are not there, at the beginning or any more; fails
  // those that are.
  void KeepServants();
  void FailServants();

  const std::string& host() const { return host_; }
  const std::string& endpoint() const { return endpoint_; }
  Process* process() const { return process_; }
  Runtime& runtime() { return *runtime_; }
  World& world() { return *world_; }
  bool is_over() const { return is_over_; }

 private:
  void Main();
  void MaybeStopOne();
  void Close();

  World* const world_;
  const std::string host_;
  const std::string endpoint_;
  Process* process_ = nullptr;
  int thread_ = 0;
  std::unique_ptr<Runtime> runtime_;
  std::deque<std::function<void(Life&)>> orders_;
  bool is_over_ = false;
  bool was_told_ = false;    // that it is replaced
  bool has_closed_ = false;  // and takes no orders
};

// Whether that says that a later process has the name of the one that gets it.
bool SaysReplaced(const std::string& text);

}  // namespace packcast::rtsim
