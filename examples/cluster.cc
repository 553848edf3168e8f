#include "examples/cluster.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <thread>
#include <utility>

#include "examples/cluster_table.h"
#include "examples/json.h"
#include "examples/role.h"
#include "runtime/actor/keys.h"

namespace packcast::examples {
namespace {

constexpr Duration kStartTimeout = Seconds(120);  // a large checkpoint is read at start
constexpr Duration kTendInterval = Milliseconds(50);
constexpr Duration kCompleteTimeout = Seconds(60);
constexpr Duration kChildGrace = Seconds(5);
constexpr Duration kFlushTimeout = Seconds(5);

}  // namespace

Cluster::Cluster(ClusterFlags flags, Lifeline lifeline)
    : flags_(std::move(flags)), lifeline_(std::move(lifeline)), view_(isatty(STDOUT_FILENO) != 0) {}

Cluster::~Cluster() { Shutdown(); }

Status Cluster::StartCoordinator() {
  Child coordinator{
      "coordinator",
      "coordinator",
      {"--endpoint=" + flags_.endpoint, "--buffer-bytes=" + std::to_string(flags_.buffer_bytes),
       "--buffers=" + std::to_string(flags_.buffers), "--install=" + flags_.install},
      {},
      0};
  PC_RETURN_IF_ERROR(StartMember(&coordinator));
  coordinator_ = std::move(coordinator.process);
  StatusOr<std::string> endpoint = coordinator_->WaitReady(kStartTimeout);
  if (!endpoint.ok()) return endpoint.status().WithContext("coordinator");
  endpoint_ = *endpoint;
  return OkStatus();
}

Status Cluster::StartMember(Child* child) {
  std::vector<std::string> arguments = child->arguments;
  if (!flags_.keys.empty()) arguments.push_back("--keys=" + flags_.keys);
  PC_ASSIGN_OR_RETURN(child->process,
                      ChildProcess::Spawn(child->program, std::move(arguments), lifeline_));
  return OkStatus();
}

Status Cluster::Start() {
  if (!flags_.report.empty()) {
    report_file_.open(flags_.report);
    if (!report_file_) return InvalidArgument("cannot write the report file " + flags_.report);
  }
  view_.Line(flags_.devices.why);
  PC_RETURN_IF_ERROR(StartCoordinator());
  view_.Line("coordinator at " + endpoint_);
  Runtime::Options options;
  options.name = "launcher";
  options.bind = "";
  if (!flags_.keys.empty()) {
    PC_ASSIGN_OR_RETURN(options.keys, LoadKeys(flags_.keys));
  }
  PC_ASSIGN_OR_RETURN(runtime_, Runtime::Start(options));
  PC_ASSIGN_OR_RETURN(
      control_, ControlClient::Connect(
                    runtime_.get(), endpoint_, [this](const Value& event) { view_.OnEvent(event); },
                    Seconds(30)));
  Child trainer{"trainer-0", "trainer", flags_.model.Arguments(), {}, 0};
  trainer.arguments.push_back("--coordinator=" + endpoint_);
  const auto add_memory = [this](size_t member, Child* child) {
    if (flags_.shared_memory) child->arguments.push_back("--shm");
    const std::vector<int>& devices = flags_.devices.devices;
    const int device = devices.empty() ? -1 : devices[member];
    child->arguments.push_back("--device=" + std::to_string(device));
  };
  add_memory(0, &trainer);
  members_.push_back(std::move(trainer));
  for (uint32_t k = 0; k < flags_.workers; ++k) {
    Child worker{"worker-" + std::to_string(k),
                 "worker",
                 {"--coordinator=" + endpoint_, "--rank=" + std::to_string(k),
                  "--replica-size=" + std::to_string(flags_.replica_size)},
                 {},
                 0};
    if (k < flags_.worker_limits.size()) {
      worker.arguments.push_back("--limit=" + std::to_string(flags_.worker_limits[k]));
    }
    add_memory(k + 1, &worker);
    members_.push_back(std::move(worker));
  }
  for (Child& child : members_) PC_RETURN_IF_ERROR(StartMember(&child));
  // While they start: a large checkpoint takes its time here too.
  if (flags_.epochs > 0) {
    PC_ASSIGN_OR_RETURN(source_, MakeSource(flags_.model));
  }
  for (Child& child : members_) {
    const StatusOr<std::string> ready = child.process->WaitReady(kStartTimeout);
    if (!ready.ok()) return WithAdvice(ready.status().WithContext(child.name));
    view_.Line(child.name + " is up, pid " + std::to_string(child.process->pid()));
  }
  return OkStatus();
}

// Starts those again that died, as a supervisor of a real cluster would.
void Cluster::TendChildren() {
  for (Child& child : members_) {
    if (!child.process) continue;
    const std::optional<std::string> ended = child.process->Ended();
    if (!ended) continue;
    const bool again = child.restarts < flags_.max_restarts;
    view_.Line(child.name + " ended with " + *ended + (again ? "; starting it again" : ""));
    if (child.process->ended_in_error() && child_failure_.ok()) {
      child_failure_ = Aborted(child.name + " ended with " + *ended);
    }
    child.process.reset();
    if (!again) continue;
    ++child.restarts;
    if (const Status status = StartMember(&child); !status.ok()) view_.Line(status.ToString());
  }
}

// Waits until every member that can be there is in.
Status Cluster::WaitComplete(Duration timeout) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  while (!stop_requested) {
    TendChildren();
    size_t running = 0;
    for (const Child& child : members_) running += child.process.has_value() ? 1 : 0;
    PC_ASSIGN_OR_RETURN(const Value status,
                        control_->Call("status", {}, Seconds(5)).Get(Seconds(6)));
    if (running > 0 && NumberAt(status, "members") >= static_cast<double>(running)) {
      return OkStatus();
    }
    if (running == 0 || std::chrono::steady_clock::now() >= until) {
      return Aborted("only " + std::to_string(static_cast<int>(NumberAt(status, "members"))) +
                     " of " + std::to_string(members_.size()) + " members are in");
    }
    std::this_thread::sleep_for(kTendInterval);
  }
  return Cancelled("interrupted");
}

Status Cluster::Expect(uint64_t label) {
  PC_RETURN_IF_ERROR(source_->Describe(SyncRequest{label}).status());
  view_.Expect(label, ToHex(source_->ContentDigest()));
  return OkStatus();
}

Status Cluster::RunEpoch(uint64_t label) {
  PC_RETURN_IF_ERROR(WaitComplete(kCompleteTimeout));
  PC_RETURN_IF_ERROR(Expect(label));  // before the sync, whose seconds are measured
  const Duration deadline = FromSeconds(flags_.epoch_seconds);
  const Future<Value> report = control_->Call("sync", {{"label", label}}, deadline);
  while (!stop_requested) {
    (void)report.Get(kTendInterval);
    if (report.ready()) {
      control_->Flush(kFlushTimeout);
      KeepReports();
      return report.Get(Duration::zero()).status();
    }
    TendChildren();
    if (coordinator_->Ended()) return PeerDied("the coordinator ended: " + *coordinator_->Ended());
  }
  return Cancelled("interrupted");
}

void Cluster::KeepReports() {
  for (Value& report : view_.TakeReports()) {
    TellTransport(report);
    if (report_file_.is_open()) report_file_ << ToJson(report) << std::endl;
    reports_.push_back(std::move(report));
  }
}

void Cluster::TellTransport(const Value& report) {
  const Value* contract = report.Find("contract");
  const Value* workers = report.Find("workers");
  if (contract == nullptr || workers == nullptr || workers->AsArray() == nullptr) return;
  const std::string transport = TextAt(*contract, "transport");
  const size_t count = workers->AsArray()->size();
  if (transport.empty() || count == 0 || transport == transport_) return;
  transport_ = transport;
  view_.Line(TransportText(transport, count));
}

Status Cluster::WithAdvice(Status status) const {
  if (!flags_.devices.by_default || status.ok() || status.code() == StatusCode::kCancelled) {
    return status;
  }
  return Status(status.code(), status.message() +
                                   "; GPUs were used because they are there: --devices none keeps "
                                   "the weights in host memory");
}

Status Cluster::RunEpochs() {
  Status first;
  for (uint64_t label = 1; label <= flags_.epochs && !stop_requested; ++label) {
    const Status status = RunEpoch(label);
    if (!status.ok()) {
      view_.Line("sync " + std::to_string(label) + ": " + status.ToString());
      if (first.ok()) first = status;
      if (coordinator_->Ended()) break;
    }
  }
  KeepReports();
  if (!reports_.empty()) std::printf("\n%s\n", EpochTable(reports_).c_str());
  std::fflush(stdout);
  if (stop_requested) return Cancelled("interrupted");
  TendChildren();
  PC_RETURN_IF_ERROR(WithAdvice(first));
  PC_RETURN_IF_ERROR(WithAdvice(child_failure_));
  return Verdict();
}

Status Cluster::Verdict() {
  if (reports_.size() < flags_.epochs) {
    return Aborted(std::to_string(reports_.size()) + " of " + std::to_string(flags_.epochs) +
                   " epochs were reported");
  }
  for (const Value& report : reports_) {
    if (const std::string wrong = view_.WrongWith(report); !wrong.empty()) return Aborted(wrong);
  }
  if (report_file_.is_open() && !report_file_) {
    return DataLoss("the report file " + flags_.report + " could not be written");
  }
  if (reports_.empty()) return OkStatus();
  const Value* workers = reports_.back().Find("workers");
  if (workers->AsArray()->size() != flags_.workers) {
    return Aborted("the last epoch reached " + std::to_string(workers->AsArray()->size()) + " of " +
                   std::to_string(flags_.workers) + " workers");
  }
  std::printf("every tensor of %u workers equals the source's in %zu epochs\n", flags_.workers,
              reports_.size());
  return OkStatus();
}

void Cluster::Hold() {
  std::printf("holding; control it with: examples/control.py --endpoint %s status\n",
              endpoint_.c_str());
  std::fflush(stdout);
  while (!stop_requested && !coordinator_->Ended()) {
    TendChildren();
    KeepReports();
    std::this_thread::sleep_for(kTendInterval);
  }
}

void Cluster::Shutdown() {
  if (control_ != nullptr && coordinator_ && !coordinator_->Ended()) {
    // Children that do not follow are killed below.
    (void)control_->Call("shutdown", {}, Seconds(2)).Get(Seconds(3));
  }
  control_.reset();
  // Those that have not joined yet hear nothing of it.
  for (Child& child : members_) {
    if (child.process) child.process->Kill(SIGTERM);
  }
  const auto until = std::chrono::steady_clock::now() + kChildGrace;
  const auto end = [&](ChildProcess* process) {
    const auto left = until - std::chrono::steady_clock::now();
    if (!process->WaitEnded(std::max<Duration>(left, Milliseconds(10)))) process->Kill(SIGKILL);
    process->WaitEnded(Seconds(1));
  };
  for (Child& child : members_) {
    if (child.process) end(&*child.process);
  }
  members_.clear();
  if (coordinator_) end(&*coordinator_);
  coordinator_.reset();
  if (runtime_ != nullptr) runtime_->Shutdown(Milliseconds(200));
}

}  // namespace packcast::examples
