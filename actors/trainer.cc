#include "actors/trainer.h"

#include <algorithm>
#include <functional>
#include <mutex>
#include <utility>

#include "actors/held_ranges.h"
#include "actors/member_handle.h"
#include "actors/member_transport.h"
#include "actors/trainer_shell.h"
#include "runtime/base/clock.h"

namespace packcast {
namespace {

// After the deadline: long enough for a cancelled epoch's abort everywhere.
constexpr Duration kCancelGrace = Seconds(15);
constexpr Duration kTurn = Milliseconds(100);

MemberConfig ConfigOf(const TrainerOptions& options, const MemberTransports& transports) {
  MemberConfig config;
  config.model = options.model;
  config.role = Role::kTrainer;
  config.unit = options.unit;
  config.rank_in_unit = options.rank;
  config.unit_size = options.unit_size;
  transports.Describe(&config.offer);
  config.offer.buffer_bytes_max = options.buffer_bytes_max;
  config.offer.buffer_count_max = options.buffer_count_max;
  return config;
}

}  // namespace

class Trainer::Impl {
 public:
  Impl(Runtime* runtime, MemberTransports ways)
      : transports(std::move(ways)), handle(runtime, std::make_shared<MemberShell::Shared>()) {}

  // One turn of the caller's thread: callbacks that are due, then the next groups.
  void Turn(Duration max_wait);
  void TellPace();
  // The result, once it is there.
  std::optional<SyncResult> TakeResult();
  // Drives until no thread reads the source any more: a lost coordinator ends the call at once,
  // while the attempt is still being given up here.
  // False when one still may after a long while; `result` says so.
  bool Settle(SyncResult* result);
  bool SourceFree();
  // What Sync does once it is the one that runs.
  SyncResult Run(uint64_t label, Duration deadline, const SyncOptions& options);
  // Waits for the result, up to the deadline and a grace.
  SyncResult Await(uint64_t label, Duration deadline, const std::function<void()>& source_free);

  MemberTransports transports;
  std::shared_ptr<TrainerShell::SourceSide> side;
  MemberHandle handle;
  bool has_siblings = false;  // other ranks of its unit
};

void Trainer::Impl::Turn(Duration max_wait) {
  const bool more = side->pump.Turn();
  TellPace();
  handle.shared().drive.Drive(more ? Duration::zero() : max_wait);
}

// Of a rank that pulls and does not send: it is through.
void Trainer::Impl::TellPace() {
  std::lock_guard lock(side->mutex);
  const std::optional<Status> end = side->pump.idle_end();
  if (!end || !side->keeping_pace) return;
  StreamDone done;
  done.key = *std::exchange(side->keeping_pace, std::nullopt);
  done.status = *end;
  handle.shared().inbox.Post(MemberEvent(std::move(done)));
}

std::optional<SyncResult> Trainer::Impl::TakeResult() {
  std::lock_guard lock(side->mutex);
  std::optional<SyncResult> result = std::exchange(side->result, std::nullopt);
  if (result) side->open_label.reset();
  return result;
}

bool Trainer::Impl::SourceFree() {
  std::lock_guard lock(side->mutex);
  return side->source_free;
}

bool Trainer::Impl::Settle(SyncResult* result) {
  const Time until = Now() + kCancelGrace;
  while (true) {
    if (!handle.Standing().ok()) {  // the machine has stopped: end what its attempt left running
      side->pump.Cancel(Cancelled("the trainer stops"));
      handle.Stop();
      return true;
    }
    {
      std::lock_guard lock(handle.shared().mutex);
      if (handle.shared().phase == MemberPhase::kIdle) return true;
    }
    if (Now() >= until) {
      result->status = Internal("the attempt could not be given up here (" +
                                result->status.ToString() + "); end this process");
      return false;
    }
    Turn(kTurn);
  }
}

Trainer::Trainer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Trainer::~Trainer() { Stop(); }

StatusOr<std::unique_ptr<Trainer>> Trainer::Start(Runtime* runtime, TrainerOptions options,
                                                  WeightSource* source, Duration timeout) {
  if (options.name.empty() || options.unit.empty() || options.rank >= options.unit_size) {
    return InvalidArgument("a trainer needs a name, a unit, and a rank below the unit's size");
  }
  PC_ASSIGN_OR_RETURN(auto transports,
                      MemberTransports::Make({.device = options.device,
                                              .peer_copies = options.peer_copies,
                                              .shared_memory = options.shared_memory,
                                              .host = options.bulk_host}));
  auto impl = std::make_unique<Impl>(runtime, std::move(transports));
  const auto shared = impl->handle.shared_ptr();
  impl->side = std::make_shared<TrainerShell::SourceSide>([shared] { shared->drive.Wake(); });
  impl->side->source = source;
  impl->has_siblings = options.unit_size > 1;
  auto shell = std::make_unique<TrainerShell>(ConfigOf(options, impl->transports), shared,
                                              impl->transports.pointers(), impl->side);
  PC_RETURN_IF_ERROR(
      impl->handle.Start(options.name, std::move(shell), options.coordinator, timeout));
  return std::unique_ptr<Trainer>(new Trainer(std::move(impl)));
}

SyncResult Trainer::Sync(uint64_t label, Duration deadline, const SyncOptions& options) {
  TrainerShell::SourceSide& side = *impl_->side;
  {
    std::unique_lock lock(side.mutex);
    if (std::exchange(side.syncing, true)) return {Busy("another thread is inside Sync"), {}};
    // The thread in WaitForRequest lets go after its turn, and takes none while `syncing`.
    impl_->handle.shared().drive.Wake();
    side.changed.wait(lock, [&] { return !side.turning; });
  }
  SyncResult result = impl_->Run(label, deadline, options);
  std::lock_guard lock(side.mutex);
  side.syncing = false;
  side.changed.notify_all();
  return result;
}

SyncResult Trainer::Impl::Run(uint64_t label, Duration deadline, const SyncOptions& options) {
  if (const Status standing = handle.Standing(); !standing.ok()) return {standing, {}};
  StatusOr<Manifest> manifest = side->source->Describe(SyncRequest{label, options.kind});
  auto held = manifest.ok() ? HeldRanges(side->source->Held(), *manifest) : manifest.status();
  if (!held.ok()) {
    const Status status = held.status().WithContext("describing the weights");
    handle.shared().inbox.Post(UserCancel{label, status});  // a script may wait for it
    return {status, {}};
  }
  {
    std::lock_guard lock(side->mutex);
    side->open_label = label;
    side->result.reset();
    side->source_free = false;
  }
  UserSync sync{label, options.kind, std::make_shared<const Manifest>(std::move(manifest).value()),
                false, std::move(held).value()};
  handle.shared().inbox.Post(std::move(sync));
  bool told_free = false;
  SyncResult result = Await(label, deadline, [&] {
    if (!std::exchange(told_free, true) && options.source_free) options.source_free();
  });
  const bool at_rest = Settle(&result);
  if (at_rest && !told_free && options.source_free) options.source_free();
  // What is still entered belongs to an epoch that is over. Other ranks walk to the end.
  std::optional<uint64_t> group;
  if (has_siblings) group = kAllGroups;
  if (result.status.ok()) (void)side->pump.Close(group);
  return result;
}

SyncResult Trainer::Impl::Await(uint64_t label, Duration deadline,
                                const std::function<void()>& source_free) {
  const Time until = Now() + deadline;
  bool cancelled = false;
  while (true) {
    Turn(kTurn);
    if (std::optional<SyncResult> result = TakeResult()) {
      if (cancelled && result->status.code() == StatusCode::kCancelled) {
        result->status = DeadlineExceeded("sync(" + std::to_string(label) + ") took longer than " +
                                          std::to_string(ToMilliseconds(deadline)) + " ms");
      }
      return std::move(*result);
    }
    if (SourceFree()) source_free();
    const Time now = Now();
    const Status standing = handle.Standing();
    if (!standing.ok() || now >= until + kCancelGrace) {
      std::lock_guard lock(side->mutex);
      side->open_label.reset();
      if (!standing.ok()) return {standing, {}};
      return {DeadlineExceeded("sync(" + std::to_string(label) +
                               ") neither ended nor could be cancelled"),
              {}};
    }
    if (now >= until && !cancelled) {
      cancelled = true;
      handle.shared().inbox.Post(UserCancel{.label = label});
    }
  }
}

StatusOr<std::optional<uint64_t>> Trainer::WaitForRequest(Duration max_wait) {
  TrainerShell::SourceSide& side = *impl_->side;
  const Time until = Now() + max_wait;
  std::unique_lock lock(side.mutex);
  while (true) {
    PC_RETURN_IF_ERROR(impl_->handle.Standing());
    if (!side.requests.empty()) {
      const uint64_t label = side.requests.front();
      side.requests.pop_front();
      return std::optional<uint64_t>(label);
    }
    const Time now = Now();
    if (now >= until) return std::optional<uint64_t>();
    const Duration turn = std::min<Duration>(until - now, kTurn);
    // The source is driven by one thread at a time, a Sync before us.
    if (side.syncing || side.turning) {
      side.changed.wait_for(lock, turn);
      continue;
    }
    side.turning = true;
    lock.unlock();
    impl_->Turn(turn);
    lock.lock();
    side.turning = false;
    side.changed.notify_all();
  }
}

void Trainer::Stop() {
  // The data thread may be waiting for a tensor, and is joined below.
  impl_->side->pump.Cancel(Cancelled("the trainer stops"));
  impl_->handle.Stop();
}

}  // namespace packcast
