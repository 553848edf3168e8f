// An inference engine whose loop cannot be had: it belongs to a scheduler with a thread of its own.
// packcast calls from a thread of packcast's (own_thread); each callback hands its work to the
// engine, which does it between two tokens and says when it is done.
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include <CLI/CLI.hpp>

#include "examples/child_process.h"
#include "examples/rl/engine.h"
#include "examples/role.h"

namespace packcast::examples {
namespace {

class Engine : public PolicySink {
 public:
  explicit Engine(Decoder decoder) : decoder_(std::move(decoder)), thread_([this] { Loop(); }) {}
  ~Engine() override {
    Post([this] { is_over_ = true; });
    thread_.join();
  }

  // From packcast's thread. `done` is called from the engine's, a token later.
  void Quiesce(const EpochInfo&, Done done) override {
    Post([this, done = std::move(done)] {
      is_serving_ = false;
      done(OkStatus());
    });
  }
  void Resume(const EpochInfo&, EpochOutcome) override {
    Post([this] { is_serving_ = true; });
  }
  void Install(const EpochInfo& epoch, Done done) override {
    Post([this, epoch, done = std::move(done)] {
      Flip(epoch);
      // The version changes with the weights, between the same two tokens. Worker::Serving would
      // say so a moment later.
      version_ = ToString(epoch.version);
      label_ = epoch.label;
      // In place the engine stands still until Resume.
      if (epoch.install == InstallMode::kStaged) is_serving_ = true;
      done(OkStatus());
    });
  }

 private:
  void Post(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    work_.push_back(std::move(work));
    changed_.notify_one();
  }
  void RunPosted(Duration wait) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, wait, [this] { return !work_.empty(); });
    std::deque<std::function<void()>> work = std::move(work_);
    work_.clear();
    lock.unlock();
    for (auto& step : work) step();
  }
  void Loop() {
    bool has_work = false;
    while (!is_over_) {
      RunPosted(has_work ? Milliseconds(0) : Milliseconds(5));
      has_work = is_serving_ && decoder_.HasRoom();
      if (has_work) decoder_.Step(serving(), version_, label_);
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;  // guarded by mutex_

  // The engine's thread only.
  Decoder decoder_;
  bool is_serving_ = false;
  bool is_over_ = false;
  std::string version_;
  uint64_t label_ = 0;

  std::thread thread_;  // last: it uses the others
};

Status Run(const RoleFlags& flags) {
  PC_ASSIGN_OR_RETURN(const std::unique_ptr<Runtime> runtime, StartRuntime(flags, flags.name));
  PC_ASSIGN_OR_RETURN(TypedRef<Rollouts> rollouts, FindRollouts(*runtime, flags.coordinator));
  Engine engine(Decoder(flags.name, std::move(rollouts)));
  PC_ASSIGN_OR_RETURN(const std::unique_ptr<Worker> worker,
                      Worker::Start(runtime.get(),
                                    {.name = flags.name,
                                     .replica = flags.name,
                                     .model = flags.model,
                                     .coordinator = flags.coordinator,
                                     .shared_memory = flags.shared_memory,
                                     .own_thread = true},
                                    &engine));
  CatchSignals();
  SayReady(flags.ready_fd, flags.name);
  // A server would serve requests here. Drive only tells of the end: callbacks run elsewhere.
  while (!stop_requested) {
    const Status status = worker->Drive(Milliseconds(200));
    if (status.code() == StatusCode::kCancelled) return OkStatus();
    PC_RETURN_IF_ERROR(status);
  }
  return OkStatus();
}

}  // namespace
}  // namespace packcast::examples

int main(int argc, char** argv) {
  using namespace packcast::examples;
  RoleFlags flags;
  CLI::App app("an inference engine that is called back", "callback_engine");
  AddRoleFlags(&app, &flags, true);
  return RoleMain(&app, argc, argv, [&] { return Run(flags); });
}
