#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "examples/child_process.h"
#include "examples/choose_devices.h"
#include "examples/control_client.h"
#include "examples/model_flags.h"
#include "examples/progress_view.h"
#include "protocol/status.h"
#include "runtime/actor/runtime.h"

namespace packcast::examples {

struct ClusterFlags {
  ModelFlags model;
  uint32_t workers = 2;
  uint32_t replica_size = 1;
  uint64_t epochs = 3;
  uint64_t buffer_bytes = uint64_t{1} << 30;
  uint32_t buffers = 2;
  std::vector<uint64_t> worker_limits;
  bool shared_memory = false;
  DeviceChoice devices;
  std::string install = "staged";
  std::string report;
  std::string endpoint = "tcp://127.0.0.1:*";
  std::string keys;  // a file, the same for all of them; "": none
  bool hold = false;
  uint32_t max_restarts = 3;
  double epoch_seconds = 600;
};

// A coordinator, a trainer and workers as child processes on this machine, and the epochs that they
// run. Used on one thread.
class Cluster {
 public:
  Cluster(ClusterFlags flags, Lifeline lifeline);
  ~Cluster();

  Status Start();
  // All epochs; kAborted when something was not as it should be (already printed).
  Status RunEpochs();
  // Until a control call ends the cluster, or a signal.
  void Hold();
  void Shutdown();
  const std::string& endpoint() const { return endpoint_; }

 private:
  struct Child {
    std::string name;
    std::string program;
    std::vector<std::string> arguments;
    std::optional<ChildProcess> process;
    uint32_t restarts = 0;
  };
  Status StartCoordinator();
  Status StartMember(Child* child);
  void TendChildren();
  // What the source holds at `label`, computed here and shown to the view.
  Status Expect(uint64_t label);
  Status WaitComplete(Duration timeout);
  Status RunEpoch(uint64_t label);
  void KeepReports();
  // Prints the transport and why, when it is not the one of the epoch before.
  void TellTransport(const Value& report);
  // An error of members that nobody told to use GPUs says what to do about it.
  Status WithAdvice(Status status) const;
  Status Verdict();

  const ClusterFlags flags_;
  Lifeline lifeline_;
  ProgressView view_;
  std::string endpoint_;
  std::optional<ChildProcess> coordinator_;
  std::vector<Child> members_;
  std::unique_ptr<Runtime> runtime_;
  std::unique_ptr<ControlClient> control_;
  std::ofstream report_file_;
  std::vector<Value> reports_;
  std::string transport_;  // of the last report
  // The launcher's own copy of the weights: what all workers are compared with.
  std::unique_ptr<ChangingSource> source_;
  Status child_failure_;  // of the first child that ended with an error of its own
};

}  // namespace packcast::examples
