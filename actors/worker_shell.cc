#include "actors/worker_shell.h"

#include <utility>

#include "runtime/base/clock.h"
#include "runtime/base/failpoint.h"

namespace packcast {

WorkerShell::WorkerShell(MemberConfig config, std::shared_ptr<Shared> shared,
                         std::vector<Transport*> transports, std::shared_ptr<SinkSide> side,
                         std::shared_ptr<ServingCell> serving)
    : MemberShell(std::move(shared), std::move(transports)),
      machine_(std::move(config)),
      side_(std::move(side)),
      serving_(std::move(serving)) {}

MemberEffects WorkerShell::Step(const TrainerEvent& event, Time now) {
  const auto* member = std::get_if<MemberEvent>(&event);
  return member != nullptr ? machine_.On(*member, now) : MemberEffects{};
}

void WorkerShell::Publish() {
  ServingState state;
  state.version = machine_.serving();
  state.installs = machine_.install_count();
  state.dirty = machine_.dirty();
  state.in_service = machine_.in_service() && !state.version.IsZero();
  serving_->Publish(state);
}

void WorkerShell::Carry(Context&, MemberEffect effect) {
  if (auto* prepare = std::get_if<PrepareAttempt>(&effect)) {
    Prepare(*prepare);
  } else if (auto* quiesce = std::get_if<QuiesceEngine>(&effect)) {
    Quiesce(quiesce->key);
  } else if (auto* start = std::get_if<StartStream>(&effect)) {
    attempt_.sends ? StartSending(*start) : StartReceiving(*start);
  } else if (auto* install = std::get_if<InstallVersion>(&effect)) {
    Install(install->key);
  } else if (auto* resume = std::get_if<ResumeEngine>(&effect)) {
    shared().drive.Post([side = side_, info = InfoOf(resume->key), committed = resume->committed] {
      side->paused_since.reset();
      side->sink->Resume(side->WithBank(info),
                         committed ? EpochOutcome::kCommitted : EpochOutcome::kAborted);
    });
  } else if (auto* abort = std::get_if<AbortLocal>(&effect)) {
    const bool sends = attempt_.key == abort->key && attempt_.sends;
    sends ? AbortSending(abort->key) : Abort(abort->key);
  } else if (std::holds_alternative<SourceFree>(effect)) {
    side_->sending.reset();
  }
}

void WorkerShell::Prepare(const PrepareAttempt& attempt) {
  shared().drive.Post([this, self = shared_ptr(), side = side_, attempt] {
    PrepareDone done;
    done.key = attempt.key;
    done.status = Failpoint("worker.prepare");
    if (done.status.ok()) {
      done.status = attempt.sends ? side->Lend(attempt.manifest)
                                  : side->binding.Bind(side->sink, *attempt.manifest,
                                                       attempt.contract->install);
    }
    if (self->drive.closed()) return;  // the sink has stopped the worker, and `this` is gone
    if (done.status.ok()) done = engine().Prepare(attempt);
    done.can_serve = side->keeps_installed && side->binding.is_readable();
    self->inbox.Post(MemberEvent(std::move(done)));
  });
}

// The binding stands since Prepare was answered; the driving thread does not touch it now.
void WorkerShell::StartReceiving(const StartStream& start) {
  written_ = start.key;
  side_->binding.Write();
  engine().StreamIn(start.key, start.early,
                    std::shared_ptr<const TargetMap>(side_, side_->binding.targets()),
                    LoadCallback(start.key));
}

// ---- sending what serves ------------------------------------------------------------------------

Status WorkerShell::SinkSide::Lend(const std::shared_ptr<const Manifest>& manifest) {
  const TargetMap* const kept = keeps_installed ? binding.kept() : nullptr;
  if (kept == nullptr || binding.manifest_digest() != manifest->digest()) {
    return FailedPrecondition("no copy of what serves is kept here");
  }
  sending = std::make_shared<Sending>(manifest, *kept);
  return OkStatus();
}

// Nothing here is the user's code: the rows lie where they were written.
void WorkerShell::StartSending(const StartStream& start) {
  const std::shared_ptr<Sending> sending = side_->sending;
  sending->pump.Reset(engine().sending_flows());
  sending->pump.Open(&sending->source, InfoOf(start.key), attempt_.manifest, true);
  while (sending->pump.Turn()) continue;
  engine().StreamOut(start.key, start.early, std::shared_ptr<SourcePump>(sending, &sending->pump));
}

// Behind a Prepare that may still run on the driving thread.
void WorkerShell::AbortSending(const EpochKey& key) {
  engine().Abort("attempt " + std::to_string(key.attempt.value) + " is given up",
                 [self = shared_ptr(), side = side_, key](AbortOutcome outcome) {
                   self->drive.Post([self, side, key, outcome] {
                     if (outcome != AbortOutcome::kWedged) side->sending.reset();
                     self->inbox.Post(MemberEvent(AbortDone{key, outcome}));
                   });
                 });
}

// ---- installing ---------------------------------------------------------------------------------

// Rows that the sink takes by callback: shown on the driving thread while the data thread waits.
UnpackCallback WorkerShell::LoadCallback(const EpochKey& key) {
  return [self = shared_ptr(), side = side_,
          info = InfoOf(key)](std::span<const UnpackedRegion> regions) -> Status {
    Promise<Unit> promise;
    const Future<Unit> loaded = promise.future();
    // The piece has the only promise: when a closed queue drops it, the future resolves.
    self->drive.Post([&regions, side, info, promise = std::move(promise)] {
      TensorGroup group;
      for (const UnpackedRegion& region : regions) {
        group.tensors.push_back(
            {region.row, region.meta->dtype, region.data, {}, region.offset, region.bytes});
      }
      const Status status = side->sink->Load(side->WithBank(info), group);
      promise.Set(status.ok() ? StatusOr<Unit>(Unit{}) : StatusOr<Unit>(status));
    });
    // The callback reads this frame's regions, so there is no leaving before it is done.
    while (!loaded.ready()) (void)loaded.Get(Seconds(1));
    return loaded.Get(Duration::zero()).status();
  };
}

void WorkerShell::Quiesce(const EpochKey& key) {
  shared().drive.Post([self = shared_ptr(), side = side_, key, info = InfoOf(key)] {
    side->paused_since = Now();
    {
      std::lock_guard lock(side->mutex);
      side->quiesce_open = true;
    }
    side->sink->Quiesce(side->WithBank(info), [self, side, key](Status status) {
      std::function<void()> waiting;
      {
        std::lock_guard lock(side->mutex);
        side->quiesce_open = false;
        waiting = std::exchange(side->waiting, nullptr);
      }
      if (status.ok()) status = Failpoint("worker.quiesce");
      self->inbox.Post(MemberEvent(QuiesceDone{key, std::move(status)}));
      if (waiting) waiting();
    });
  });
}

void WorkerShell::Install(const EpochKey& key) {
  shared().drive.Post(
      [self = shared_ptr(), side = side_, serving = serving_, key, info = InfoOf(key)] {
        const Time began = side->paused_since.value_or(Now());
        side->sink->Install(side->WithBank(info),
                            [self, side, serving, info, key, began](Status status) {
                              const double pause = ToSeconds(Now() - began);
                              // Back on the driving thread: the digest reads the sink's memory.
                              self->drive.Post([self, side, serving, info, key, status, pause] {
                                InstallDone done{key, status, std::nullopt, pause};
                                if (status.ok()) side->AfterInstall(&done);
                                if (done.status.ok()) done.status = Failpoint("worker.install");
                                // Here, and not on the actor later: who drives reads it next.
                                if (done.status.ok()) {
                                  serving->Installed(info.version, info.label, !side->paused_since);
                                }
                                self->inbox.Post(MemberEvent(std::move(done)));
                              });
                            });
      });
}

EpochInfo WorkerShell::SinkSide::WithBank(EpochInfo info) const {
  info.bank = binding.bank();
  return info;
}

void WorkerShell::SinkSide::AfterInstall(InstallDone* done) {
  binding.Flip();
  if (!verify) return;
  StatusOr<Digest> digest = verify();
  if (digest.ok()) {
    done->memory_digest = *digest;
  } else {
    done->status = digest.status().WithContext("verify");
    binding.Forget();
  }
}

void WorkerShell::Abort(const EpochKey& key) {
  const bool wrote = written_ == key;
  engine().Abort(
      "attempt " + std::to_string(key.attempt.value) + " is given up",
      [self = shared_ptr(), side = side_, key, info = InfoOf(key), wrote](AbortOutcome outcome) {
        const auto finish = [self, side, key, info, wrote, outcome] {
          self->drive.Post([self, side, key, info, wrote, outcome] {
            AbortDone done{key, outcome};
            if (!Failpoint("worker.abort").ok()) done.outcome = AbortOutcome::kWedged;
            // Memory that may still be written is the sink's no more: the process is to end.
            const bool is_wedged = done.outcome == AbortOutcome::kWedged;
            if (wrote && !is_wedged) side->sink->Discard(side->WithBank(info));
            self->inbox.Post(MemberEvent(done));
          });
        };
        {
          std::lock_guard lock(side->mutex);
          if (side->quiesce_open) {  // the engine still answers to the quiesce
            side->waiting = finish;
            return;
          }
        }
        finish();
      });
}

}  // namespace packcast
