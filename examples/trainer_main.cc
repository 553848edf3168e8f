// A trainer rank as a program: weights from a checkpoint that change with each label. Syncs when
// asked by a control call, or --epochs times by itself.
#include <cstdio>

#include <CLI/CLI.hpp>

#include "actors/sources/copied_source.h"
#include "actors/trainer.h"
#include "examples/child_process.h"
#include "examples/device_flag.h"
#include "examples/flag_checks.h"
#include "examples/json.h"
#include "examples/model_flags.h"
#include "examples/role.h"
#include "protocol/limits.h"

namespace packcast::examples {
namespace {

constexpr Duration kTurn = Milliseconds(200);

struct Flags {
  RoleFlags role;
  ModelFlags model;
  TrainerOptions options;
  uint64_t epochs = 0;
  double sync_seconds = 600;
  int device = -1;
};

// One sync, its digest checked against the source's own bytes.
Status SyncOnce(Trainer* trainer, ChangingSource* source, uint64_t label, Duration deadline) {
  const SyncResult result = trainer->Sync(label, deadline);
  PC_RETURN_IF_ERROR(result.status);
  const std::string sent = TextAt(result.report, "digest");
  const std::string own = ToHex(source->ContentDigest());
  if (!sent.empty() && sent != own) {
    return DataLoss("sync(" + std::to_string(label) + ") sent " + sent + ", the source holds " +
                    own);
  }
  return OkStatus();
}

Status Run(Flags flags) {
  if (flags.options.rank >= flags.options.unit_size) {
    return InvalidArgument("--rank " + std::to_string(flags.options.rank) +
                           " is not below --ranks " + std::to_string(flags.options.unit_size));
  }
  PC_RETURN_IF_ERROR(CheckBulkHost(flags.role, flags.options.bulk_host));
  PC_ASSIGN_OR_RETURN(const std::unique_ptr<ChangingSource> source, MakeSource(flags.model));
  flags.options.model = flags.role.model;
  flags.options.shared_memory = flags.role.shared_memory;
  flags.options.coordinator = flags.role.coordinator;
  flags.options.name =
      flags.role.name.empty() ? "trainer-" + std::to_string(flags.options.rank) : flags.role.name;
  PC_ASSIGN_OR_RETURN(const std::unique_ptr<Runtime> runtime,
                      StartRuntime(flags.role, flags.options.name));
  PC_ASSIGN_OR_RETURN(Allocator* const memory, UseDevice(flags.device, &flags.options.device));
  // On a device the weights are a copy there, of the ones that change here.
  CopiedSource copied(source.get(), memory);
  WeightSource* const weights =
      memory == nullptr ? static_cast<WeightSource*>(source.get()) : &copied;
  PC_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer,
                      Trainer::Start(runtime.get(), flags.options, weights));
  CatchSignals();
  SayReady(flags.role.ready_fd, flags.options.name);
  const Duration deadline = FromSeconds(flags.sync_seconds);
  for (uint64_t label = 1; label <= flags.epochs && !stop_requested; ++label) {
    PC_RETURN_IF_ERROR(SyncOnce(trainer.get(), source.get(), label, deadline));
    std::printf("%s: sync(%llu) committed\n", flags.options.name.c_str(),
                static_cast<unsigned long long>(label));
    std::fflush(stdout);
  }
  while (flags.epochs == 0 && !stop_requested) {
    const StatusOr<std::optional<uint64_t>> label = trainer->WaitForRequest(kTurn);
    if (label.status().code() == StatusCode::kCancelled) return OkStatus();  // the cluster ends
    PC_RETURN_IF_ERROR(label.status());
    if (!*label) continue;
    // Who asked gets the error as well; the next request may fare better.
    const Status status = SyncOnce(trainer.get(), source.get(), **label, deadline);
    if (status.code() == StatusCode::kDataLoss) return status;
    if (!status.ok()) {
      std::fprintf(stderr, "%s: sync(%llu): %s\n", flags.options.name.c_str(),
                   static_cast<unsigned long long>(**label), status.ToString().c_str());
    }
  }
  return OkStatus();
}

}  // namespace
}  // namespace packcast::examples

int main(int argc, char** argv) {
  using namespace packcast::examples;
  Flags flags;
  CLI::App app("sends a model's weights to all workers", "trainer");
  AddRoleFlags(&app, &flags.role, true);
  AddModelFlags(&app, &flags.model);
  app.add_option("--rank", flags.options.rank, "in the trainer unit")
      ->envname("PACKCAST_RANK")
      ->check(NumberFrom(0, packcast::limits::kMembers - 1))
      ->capture_default_str();
  app.add_option("--ranks", flags.options.unit_size, "ranks of the trainer unit")
      ->envname("PACKCAST_WORLD_SIZE")
      ->check(NumberFrom(1, packcast::limits::kMembers))
      ->capture_default_str();
  app.add_option("--bulk-host", flags.options.bulk_host,
                 "this host's address for the workers' bulk connections")
      ->envname("PACKCAST_BULK_HOST")
      ->capture_default_str();
  AddDeviceFlag(&app, &flags.device);
  app.add_option("--epochs", flags.epochs, "sync this often, then end; 0: when asked")
      ->check(NumberFrom(0, UINT64_MAX))
      ->capture_default_str();
  app.add_option("--sync-seconds", flags.sync_seconds, "deadline of one sync")
      ->check(SecondsAboveZero())
      ->capture_default_str();
  return RoleMain(&app, argc, argv, [&] { return Run(flags); });
}
