// An inference engine with a main loop of its own, into which packcast fits: between two tokens it
// drives the worker, whose callbacks then run on this very thread. So nothing here needs a lock.
#include <CLI/CLI.hpp>

#include "examples/child_process.h"
#include "examples/rl/engine.h"
#include "examples/role.h"

namespace packcast::examples {
namespace {

class Sink : public PolicySink {
 public:
  // The loop is between two tokens: it has stopped reading already.
  void Quiesce(const EpochInfo&, Done done) override { done(OkStatus()); }
  void Resume(const EpochInfo&, EpochOutcome) override {}
  void Install(const EpochInfo& epoch, Done done) override {
    Flip(epoch);
    done(OkStatus());
  }
};

Status Run(const RoleFlags& flags) {
  PC_ASSIGN_OR_RETURN(const std::unique_ptr<Runtime> runtime, StartRuntime(flags, flags.name));
  PC_ASSIGN_OR_RETURN(TypedRef<Rollouts> rollouts, FindRollouts(*runtime, flags.coordinator));
  Sink sink;
  PC_ASSIGN_OR_RETURN(const std::unique_ptr<Worker> worker,
                      Worker::Start(runtime.get(),
                                    {.name = flags.name,
                                     .replica = flags.name,
                                     .model = flags.model,
                                     .coordinator = flags.coordinator,
                                     .shared_memory = flags.shared_memory},
                                    &sink));
  CatchSignals();
  SayReady(flags.ready_fd, flags.name);
  Decoder decoder(flags.name, std::move(rollouts));
  bool has_work = false;
  while (!stop_requested) {
    // With work at hand only what is due; else it sleeps here, until a callback or a while has
    // come.
    const Status status = worker->Drive(has_work ? Milliseconds(0) : Milliseconds(5));
    if (status.code() == StatusCode::kCancelled) return OkStatus();  // the cluster has ended
    PC_RETURN_IF_ERROR(status);
    // Of this moment: on this thread nothing changes until the next Drive.
    const ServingState state = worker->Serving();
    has_work = state.in_service && decoder.HasRoom();
    if (has_work) decoder.Step(sink.serving(), ToString(state.version), state.label);
  }
  return OkStatus();
}

}  // namespace
}  // namespace packcast::examples

int main(int argc, char** argv) {
  using namespace packcast::examples;
  RoleFlags flags;
  CLI::App app("an inference engine that polls", "poll_engine");
  AddRoleFlags(&app, &flags, true);
  return RoleMain(&app, argc, argv, [&] { return Run(flags); });
}
