#include "actors/trainer_shell.h"

#include <algorithm>
#include <utility>

#include "runtime/base/failpoint.h"
#include "runtime/base/log.h"

namespace packcast {
namespace {

constexpr size_t kRequestsKept = 16;

}  // namespace

TrainerShell::TrainerShell(MemberConfig config, std::shared_ptr<Shared> shared,
                           std::vector<Transport*> transports, std::shared_ptr<SourceSide> side)
    : MemberShell(std::move(shared), std::move(transports)),
      machine_(std::move(config)),
      side_(std::move(side)) {}

MemberEffects TrainerShell::Step(const TrainerEvent& event, Time now) {
  return machine_.On(event, now);
}

void TrainerShell::Carry(Context&, MemberEffect effect) {
  if (auto* prepare = std::get_if<PrepareAttempt>(&effect)) {
    const Status status = WorkFailpoint("prepare");
    Post(status.ok() ? engine().Prepare(*prepare) : PrepareDone{prepare->key, status, {}, {}, ""});
  } else if (auto* start = std::get_if<StartStream>(&effect)) {
    StartSending(*start);
  } else if (auto* halt = std::get_if<HaltSource>(&effect)) {
    Post(HaltDone{halt->key, side_->pump.Halt()});
  } else if (auto* abort = std::get_if<AbortLocal>(&effect)) {
    Abort(*abort);
  } else if (std::holds_alternative<SourceFree>(effect)) {
    std::lock_guard lock(side_->mutex);
    side_->source_free = true;
    shared().drive.Wake();
  } else if (auto* requested = std::get_if<SyncRequested>(&effect)) {
    if (side_->Request(requested->label)) {
      shared().drive.Wake();
    } else {
      const Status busy = Busy(std::to_string(kRequestsKept) + " requested syncs wait here");
      shared().inbox.Post(UserCancel{requested->label, busy});  // whoever asked waits for a word
    }
  } else if (auto* finished = std::get_if<SyncFinished>(&effect)) {
    std::lock_guard lock(side_->mutex);
    if (side_->open_label == finished->label) {
      side_->result = SyncResult{finished->status, std::move(finished->report)};
    }
    shared().drive.Wake();
  }
}

bool TrainerShell::SourceSide::Request(uint64_t label) {
  std::lock_guard lock(mutex);
  // One sync answers all who asked for its label; to refuse one of them would end it for all.
  const bool known =
      open_label == label || std::find(requests.begin(), requests.end(), label) != requests.end();
  if (!known && requests.size() >= kRequestsKept) return false;
  if (requests.size() < kRequestsKept) requests.push_back(label);
  changed.notify_all();
  return true;
}

void TrainerShell::StartSending(const StartStream& start) {
  const EpochKey& key = start.key;
  const size_t flows = engine().sending_flows();
  const bool sends = flows > 0;
  side_->pump.Reset(flows);
  {
    std::lock_guard lock(side_->mutex);
    side_->keeping_pace.reset();
    if (!sends) side_->keeping_pace = key;
  }
  shared().drive.Post([side = side_, info = InfoOf(key), manifest = attempt_.manifest, sends] {
    side->pump.Open(side->source, info, manifest, sends);
  });
  if (sends) engine().StreamOut(key, start.early, std::shared_ptr<SourcePump>(side_, &side_->pump));
}

void TrainerShell::Abort(const AbortLocal& abort) {
  {
    std::lock_guard lock(side_->mutex);
    side_->keeping_pace.reset();
  }
  side_->pump.Cancel(Aborted("the attempt is given up"));
  engine().Abort("attempt " + std::to_string(abort.key.attempt.value) + " is given up",
                 [self = shared_ptr(), side = side_, abort](AbortOutcome outcome) {
                   self->drive.Post([self, side, abort, outcome] {
                     AbortDone done{abort.key, outcome};
                     if (!Failpoint("trainer.abort").ok()) done.outcome = AbortOutcome::kWedged;
                     // What may still be read is never released: the process is to end.
                     if (done.outcome == AbortOutcome::kWedged) {
                       self->inbox.Post(MemberEvent(done));
                       return;
                     }
                     if (const Status drained = side->pump.Close(abort.drain_group);
                         !drained.ok()) {
                       LogError("draining the weight source: ", drained.ToString());
                       done.outcome = AbortOutcome::kWedged;
                     }
                     self->inbox.Post(MemberEvent(done));
                   });
                 });
}

}  // namespace packcast
