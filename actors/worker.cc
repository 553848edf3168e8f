#include "actors/worker.h"

#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "actors/member_handle.h"
#include "actors/member_transport.h"
#include "actors/worker_shell.h"
#include "protocol/time.h"

namespace packcast {
namespace {

constexpr Duration kOwnThreadTurn = Milliseconds(200);

Status Check(const WorkerOptions& options) {
  if (options.name.empty() || options.replica.empty()) {
    return InvalidArgument("a worker needs a name and a replica");
  }
  if (options.rank >= options.replica_size) {
    return InvalidArgument("rank " + std::to_string(options.rank) +
                           " is out of the replica's size " + std::to_string(options.replica_size));
  }
  return OkStatus();
}

MemberConfig ConfigOf(const WorkerOptions& options, const SinkCaps& caps,
                      const MemberTransports& transports) {
  MemberConfig config;
  config.model = options.model;
  config.role = Role::kWorker;
  config.unit = options.replica;
  config.rank_in_unit = options.rank;
  config.unit_size = options.replica_size;
  transports.Describe(&config.offer);
  config.offer.buffer_bytes_max = options.buffer_bytes_max;
  if (caps.buffer_bytes_max != 0 &&
      (options.buffer_bytes_max == 0 || caps.buffer_bytes_max < options.buffer_bytes_max)) {
    config.offer.buffer_bytes_max = caps.buffer_bytes_max;
  }
  config.offer.buffer_count_max = options.buffer_count_max;
  if (caps.staged) config.offer.install_modes.push_back(InstallMode::kStaged);
  config.offer.can_serve = caps.can_serve;
  if (caps.in_place) config.offer.install_modes.push_back(InstallMode::kInPlace);
  return config;
}

}  // namespace

class Worker::Impl {
 public:
  Impl(Runtime* runtime, MemberTransports ways)
      : transports(std::move(ways)), handle(runtime, std::make_shared<MemberShell::Shared>()) {}
  ~Impl() { Stop(); }

  void Stop() {
    handle.Stop();  // which ends the thread's loop
    std::thread ending;
    {
      std::lock_guard lock(thread_mutex);
      // From a callback it ends after that.
      if (thread.get_id() != std::this_thread::get_id()) ending.swap(thread);
    }
    if (ending.joinable()) ending.join();
  }
  void WaitOwnThread(Duration max_wait) {
    std::unique_lock lock(thread_mutex);
    thread_ended.wait_for(lock, ClampedWait(max_wait), [this] { return has_thread_ended; });
  }

  // In order of destruction from below: the actor goes before what it uses.
  MemberTransports transports;
  std::shared_ptr<ServingCell> serving = std::make_shared<ServingCell>();
  MemberHandle handle;
  bool own_thread = false;  // constant after Start
  std::mutex thread_mutex;  // guards what follows
  std::condition_variable thread_ended;
  bool has_thread_ended = false;
  std::thread thread;
};

Worker::Worker(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Worker::~Worker() = default;

StatusOr<std::unique_ptr<Worker>> Worker::Start(Runtime* runtime, WorkerOptions options,
                                                WeightSink* sink, Duration timeout) {
  PC_RETURN_IF_ERROR(Check(options));
  PC_ASSIGN_OR_RETURN(auto transports,
                      MemberTransports::Make({.device = options.device,
                                              .peer_copies = options.peer_copies,
                                              .gentle = options.gentle,
                                              .shared_memory = options.shared_memory,
                                              .host = options.bulk_host}));
  auto impl = std::make_unique<Impl>(runtime, std::move(transports));
  auto side = std::make_shared<WorkerShell::SinkSide>();
  side->sink = sink;
  const SinkCaps caps = sink->Caps();
  side->keeps_installed = caps.can_serve;
  side->verify = options.verify;
  auto shell = std::make_unique<WorkerShell>(ConfigOf(options, caps, impl->transports),
                                             impl->handle.shared_ptr(), impl->transports.pointers(),
                                             side, impl->serving);
  PC_RETURN_IF_ERROR(
      impl->handle.Start(options.name, std::move(shell), options.coordinator, timeout));
  impl->own_thread = options.own_thread;
  if (options.own_thread) {
    std::lock_guard lock(impl->thread_mutex);
    impl->thread = std::thread([raw = impl.get()] {
      while (raw->handle.Standing().ok()) raw->handle.shared().drive.Drive(kOwnThreadTurn);
      std::lock_guard ended(raw->thread_mutex);
      raw->has_thread_ended = true;
      raw->thread_ended.notify_all();
    });
  }
  return std::unique_ptr<Worker>(new Worker(std::move(impl)));
}

Status Worker::Drive(Duration max_wait) {
  PC_RETURN_IF_ERROR(impl_->handle.Standing());
  if (impl_->own_thread) {
    impl_->WaitOwnThread(max_wait);
  } else {
    impl_->handle.shared().drive.Drive(max_wait);
  }
  return impl_->handle.Standing();
}

ServingState Worker::Serving() const { return impl_->serving->Load(); }

void Worker::Stop() { impl_->Stop(); }

}  // namespace packcast
