// A worker rank as a program: a stand-in for an inference engine, with its weights in host memory.
#include <unistd.h>

#include <string>

#include <CLI/CLI.hpp>

#include "actors/sources/memory_sink.h"
#include "actors/worker.h"
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
constexpr Duration kRereadPause = Milliseconds(100);

struct Flags {
  RoleFlags role;
  ModelFlags expect;
  WorkerOptions options;
  uint32_t worker = 0;
  bool expecting = false;
  bool can_serve = true;
  int device = -1;
  int serving_fd = -1;
};

// Tells a test, now and then, what the memory that serves really holds.
class ServingReader {
 public:
  ServingReader(const MemorySink* sink, int fd) : sink_(sink), fd_(fd) {}
  void Turn() {
    const Time now = SteadyNow();
    if (fd_ < 0 || now < next_) return;
    next_ = now + kRereadPause;
    const SinkState state = sink_->state();
    ValueMap line{{"version", ToString(state.version)},
                  {"installs", state.installs},
                  {"in_service", state.in_service()},
                  {"dirty", state.dirty}};
    // Nothing changes it meanwhile: that happens in a turn.
    const StatusOr<Digest> digest = sink_->ServingDigest();
    if (digest.ok()) line.emplace_back("digest", ToHex(*digest));
    const std::string text = ToJson(line) + "\n";
    if (write(fd_, text.data(), text.size()) < 0) fd_ = -1;
  }

 private:
  static Time SteadyNow() { return std::chrono::steady_clock::now(); }
  const MemorySink* sink_;
  int fd_;
  Time next_{};
};

StatusOr<std::unique_ptr<MemorySink>> MakeSink(const Flags& flags) {
  SinkCaps caps = MemorySink::kDoesAll;
  caps.can_serve = flags.can_serve;
  if (!flags.expecting) return std::make_unique<MemorySink>(caps);
  PC_ASSIGN_OR_RETURN(std::vector<Row> rows, MakeRows(flags.expect));
  return MemorySink::Expecting(std::move(rows), caps);
}

Status Run(Flags flags) {
  PC_RETURN_IF_ERROR(CheckBulkHost(flags.role, flags.options.bulk_host));
  PC_ASSIGN_OR_RETURN(const std::unique_ptr<MemorySink> sink, MakeSink(flags));
  WorkerOptions& options = flags.options;
  PC_ASSIGN_OR_RETURN(Allocator* const memory, UseDevice(flags.device, &options.device));
  sink->UseMemory(memory);
  options.name =
      flags.role.name.empty() ? "worker-" + std::to_string(flags.worker) : flags.role.name;
  options.replica = "replica-" + std::to_string(flags.worker / options.replica_size);
  options.rank = flags.worker % options.replica_size;
  options.model = flags.role.model;
  options.shared_memory = flags.role.shared_memory;
  options.coordinator = flags.role.coordinator;
  options.verify = [&sink] { return sink->ServingDigest(); };
  PC_ASSIGN_OR_RETURN(const std::unique_ptr<Runtime> runtime,
                      StartRuntime(flags.role, options.name));
  PC_ASSIGN_OR_RETURN(const std::unique_ptr<Worker> worker,
                      Worker::Start(runtime.get(), options, sink.get()));
  CatchSignals();
  SayReady(flags.role.ready_fd, options.name);
  // An engine would run its decode loop here, and drive the worker between steps.
  ServingReader reader(sink.get(), flags.serving_fd);
  while (!stop_requested) {
    reader.Turn();
    const Status status = worker->Drive(kTurn);
    if (status.code() == StatusCode::kCancelled) return OkStatus();
    PC_RETURN_IF_ERROR(status);
    PC_RETURN_IF_ERROR(sink->misuse());
  }
  return OkStatus();
}

}  // namespace
}  // namespace packcast::examples

int main(int argc, char** argv) {
  using namespace packcast::examples;
  Flags flags;
  CLI::App app("receives a model's weights", "worker");
  AddRoleFlags(&app, &flags.role, true);
  app.add_option("--rank", flags.worker, "number of this worker in the cluster")
      ->envname("PACKCAST_RANK")
      ->check(NumberFrom(0, packcast::limits::kMembers - 1))
      ->capture_default_str();
  app.add_option("--replica-size", flags.options.replica_size,
                 "consecutive workers that form one replica")
      ->envname("PACKCAST_REPLICA_SIZE")
      ->check(NumberFrom(1, packcast::limits::kMembers))
      ->capture_default_str();
  app.add_option("--limit", flags.options.buffer_bytes_max, "largest buffer offered; 0: any")
      ->check(BufferLimit())
      ->capture_default_str();
  app.add_flag("--can-serve,!--no-can-serve", flags.can_serve,
               "others that are behind may catch up from this worker")
      ->capture_default_str();
  app.add_option("--bulk-host", flags.options.bulk_host,
                 "this host's address for the bulk connections of those that catch up from it")
      ->envname("PACKCAST_BULK_HOST")
      ->capture_default_str();
  AddDeviceFlag(&app, &flags.device);
  app.add_option("--serving-fd", flags.serving_fd, "where to tell what serves")->group("");
  CLI::Option* model =
      app.add_option("--expect-model", flags.expect.files, "refuse rows unlike this .safetensors");
  CLI::Option* shapes =
      app.add_option("--expect-shapes", flags.expect.shapes, "refuse rows unlike this list");
  return RoleMain(&app, argc, argv, [&] {
    flags.expecting = model->count() + shapes->count() > 0;
    return Run(flags);
  });
}
