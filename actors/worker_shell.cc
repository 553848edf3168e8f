#include "actors/worker_shell.h"

#include <utility>

#include "runtime/base/clock.h"

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
  ServingState state = serving_->Load();
  if (state.version != machine_.serving()) state.label = attempt_.label;
  state.version = machine_.serving();
  state.installs = machine_.install_count();
  state.dirty = machine_.dirty();
  state.in_service = machine_.in_service() && !state.version.IsZero();
  serving_->Store(state);
}

void WorkerShell::Carry(Context&, MemberEffect effect) {
  if (auto* prepare = std::get_if<PrepareAttempt>(&effect)) {
    Prepare(*prepare);
  } else if (auto* quiesce = std::get_if<QuiesceEngine>(&effect)) {
    Quiesce(quiesce->key);
  } else if (auto* start = std::get_if<StartStream>(&effect)) {
    // The binding stands since Prepare was answered; the driving thread does not touch it now.
    engine().StreamIn(start->key, std::shared_ptr<const TargetMap>(side_, side_->binding.targets()),
                      LoadCallback(start->key));
  } else if (auto* install = std::get_if<InstallVersion>(&effect)) {
    Install(install->key);
  } else if (auto* resume = std::get_if<ResumeEngine>(&effect)) {
    shared().drive.Post(
        [side = side_, info = BankInfo(resume->key), committed = resume->committed] {
          side->sink->Resume(info, committed ? EpochOutcome::kCommitted : EpochOutcome::kAborted);
        });
  } else if (auto* abort = std::get_if<AbortLocal>(&effect)) {
    Abort(abort->key);
  }
}

EpochInfo WorkerShell::BankInfo(const EpochKey& key) const {
  EpochInfo info = InfoOf(key);
  info.bank = side_->binding.bank();
  return info;
}

void WorkerShell::Prepare(const PrepareAttempt& attempt) {
  shared().drive.Post([this, self = shared_ptr(), side = side_, attempt] {
    PrepareDone done;
    done.key = attempt.key;
    done.status = side->binding.Bind(side->sink, *attempt.manifest, attempt.contract->install);
    if (done.status.ok()) done = engine().Prepare(attempt);
    self->inbox.Post(MemberEvent(std::move(done)));
  });
}

// Rows that the sink takes by callback: shown on the driving thread while the data thread waits.
UnpackCallback WorkerShell::LoadCallback(const EpochKey& key) {
  return [self = shared_ptr(), side = side_,
          info = BankInfo(key)](std::span<const UnpackedRegion> regions) -> Status {
    Promise<Unit> loaded;
    self->drive.Post([&regions, side, info, loaded] {
      TensorGroup group;
      for (const UnpackedRegion& region : regions) {
        group.tensors.push_back(
            {region.row, region.meta->dtype, region.data, {}, region.offset, region.bytes});
      }
      const Status status = side->sink->Load(info, group, StreamRef{});
      loaded.Set(status.ok() ? StatusOr<Unit>(Unit{}) : StatusOr<Unit>(status));
    });
    // The callback reads this frame's regions, so there is no leaving before it is done; a closed
    // queue drops the promise, which resolves.
    while (true) {
      const StatusOr<Unit> result = loaded.future().Get(Seconds(1));
      if (result.ok()) return OkStatus();
      if (result.status().code() != StatusCode::kDeadlineExceeded || loaded.future().ready()) {
        return result.status();
      }
    }
  };
}

void WorkerShell::Quiesce(const EpochKey& key) {
  shared().drive.Post([self = shared_ptr(), side = side_, key, info = BankInfo(key)] {
    side->paused_since = Now();
    {
      std::lock_guard lock(side->mutex);
      side->quiesce_open = true;
    }
    side->sink->Quiesce(info, [self, side, key](Status status) {
      std::function<void()> waiting;
      {
        std::lock_guard lock(side->mutex);
        side->quiesce_open = false;
        waiting = std::exchange(side->waiting, nullptr);
      }
      self->inbox.Post(MemberEvent(QuiesceDone{key, std::move(status)}));
      if (waiting) waiting();
    });
  });
}

void WorkerShell::Install(const EpochKey& key) {
  shared().drive.Post([self = shared_ptr(), side = side_, key, info = BankInfo(key)] {
    const bool in_place = info.install == InstallMode::kInPlace;
    const Time began = in_place ? side->paused_since : Now();
    side->sink->Install(info, StreamRef{}, [self, side, key, began](Status status) {
      const double pause = ToSeconds(Now() - began);
      // Back on the driving thread: the digest reads the sink's memory.
      self->drive.Post([self, side, key, status, pause] {
        InstallDone done;
        done.key = key;
        done.status = status;
        done.pause_seconds = pause;
        if (status.ok()) {
          side->binding.Flip();
          if (side->verify) {
            StatusOr<Digest> digest = side->verify();
            if (digest.ok()) {
              done.memory_digest = *digest;
            } else {
              done.status = digest.status().WithContext("verify");
            }
          }
        }
        self->inbox.Post(MemberEvent(std::move(done)));
      });
    });
  });
}

void WorkerShell::Abort(const EpochKey& key) {
  engine().Abort(
      "attempt " + std::to_string(key.attempt.value) + " is given up",
      [self = shared_ptr(), side = side_, key, info = BankInfo(key)](AbortOutcome outcome) {
        const auto finish = [self, side, key, info, outcome] {
          self->drive.Post([self, side, key, info, outcome] {
            side->sink->Discard(info);
            self->inbox.Post(MemberEvent(AbortDone{key, outcome}));
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
