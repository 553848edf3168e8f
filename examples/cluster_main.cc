// Starts a whole cluster on this machine, syncs a few epochs and checks every byte.
#include <CLI/CLI.hpp>

#include "examples/cluster.h"
#include "examples/device_flag.h"
#include "examples/flag_checks.h"
#include "examples/role.h"

namespace packcast::examples {
namespace {

constexpr uint64_t kWorkersMax = 1024;

Status Run(ClusterFlags flags, const std::string& devices) {
  CatchSignals();  // children are to be ended from the first one on
  if (flags.workers % flags.replica_size != 0) {
    return InvalidArgument("--workers " + std::to_string(flags.workers) +
                           " is not a multiple of --replica-size " +
                           std::to_string(flags.replica_size));
  }
  if (flags.worker_limits.size() > flags.workers) {
    return InvalidArgument("--worker-limits names " + std::to_string(flags.worker_limits.size()) +
                           " workers, there are " + std::to_string(flags.workers));
  }
  PC_ASSIGN_OR_RETURN(flags.devices, ChooseDevices(devices, flags.workers + 1, flags.shared_memory,
                                                   ProbeDevices()));
  // Bad weights are told here, once, instead of by a child.
  PC_RETURN_IF_ERROR(MakeRows(flags.model).status());
  PC_ASSIGN_OR_RETURN(Lifeline lifeline, Lifeline::Make());
  Cluster cluster(flags, std::move(lifeline));
  PC_RETURN_IF_ERROR(cluster.Start());
  const Status status = cluster.RunEpochs();
  if (flags.hold && !stop_requested) cluster.Hold();
  cluster.Shutdown();
  return status;
}

}  // namespace
}  // namespace packcast::examples

int main(int argc, char** argv) {
  using namespace packcast::examples;
  ClusterFlags flags;
  CLI::App app("a coordinator, a trainer and workers on this machine", "cluster");
  AddModelFlags(&app, &flags.model);
  app.add_option("--workers", flags.workers, "worker processes")
      ->check(NumberFrom(1, kWorkersMax))
      ->capture_default_str();
  app.add_option("--replica-size", flags.replica_size, "consecutive workers that form one replica")
      ->check(NumberFrom(1, kWorkersMax))
      ->capture_default_str();
  app.add_option("--epochs", flags.epochs, "syncs; the weights change between them")
      ->check(NumberFrom(0, UINT64_MAX))
      ->capture_default_str();
  AddPolicyFlags(&app, &flags.buffer_bytes, &flags.buffers, &flags.install);
  app.add_flag("--shm", flags.shared_memory, "weights go through shared memory");
  std::string devices = "auto";
  app.add_option(
         "--devices", devices,
         "GPUs of the trainer and of each worker (0,1), where their weights stay; none: the "
         "host's memory; auto: GPUs if there are enough")
      ->capture_default_str();
  app.add_option("--worker-limits", flags.worker_limits,
                 "each worker's largest buffer in bytes: a,b,c")
      ->delimiter(',')
      ->check(BufferLimit());
  app.add_option("--report", flags.report, "one JSON object per epoch goes to this file");
  app.add_option("--keys", flags.keys, "file with the CURVE keys of all (//tools/keys)");
  app.add_option("--endpoint", flags.endpoint, "where the coordinator listens; * picks a free port")
      ->check(WrongPort)
      ->capture_default_str();
  app.add_option("--max-restarts", flags.max_restarts, "of each member that dies")
      ->check(NumberFrom(0, UINT32_MAX))
      ->capture_default_str();
  app.add_option("--epoch-seconds", flags.epoch_seconds, "deadline of one sync")
      ->check(SecondsAboveZero())
      ->capture_default_str();
  app.add_flag("--hold", flags.hold, "stay up for control afterwards");
  return RoleMain(&app, argc, argv, [&] { return Run(flags, devices); });
}
