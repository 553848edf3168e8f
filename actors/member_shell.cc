#include "actors/member_shell.h"

#include <utility>

#include "actors/states.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

namespace packcast {
namespace {

// How often a rank says how far its transfer is, between its beginning and its end, which the
// coordinator knows: often enough for a progress bar, rare enough to cost nothing.
constexpr Duration kProgressInterval = Milliseconds(200);

// Why this member is about to end: the news of its end, which overtakes ordinary messages, must
// not come first.
bool IsLastWord(const MemberMessage& message) {
  const auto* aborted = std::get_if<AttemptAborted>(&message);
  return aborted != nullptr && aborted->outcome != AbortOutcome::kClean;
}

}  // namespace

MemberShell::MemberShell(std::shared_ptr<Shared> shared, std::vector<Transport*> transports)
    : shared_(shared), engine_(std::move(transports), [shared](MemberEvent event) {
        shared->inbox.Post(std::move(event));
      }) {}

void MemberShell::Shared::Stop(const Status& why) {
  {
    std::lock_guard lock(mutex);
    if (!stopped) stop_status = why;
    stopped = true;
  }
  drive.Wake();
}

EpochInfo MemberShell::InfoOf(const EpochKey& key) const {
  EpochInfo info;
  info.version = attempt_.key == key ? attempt_.version : key.version();
  info.attempt = key.attempt;
  info.label = attempt_.label;
  if (attempt_.contract != nullptr) info.install = attempt_.contract->install;
  return info;
}

void MemberShell::OnStart(Context& context) {
  const MemberId self{context.self().actor(), context.self().incarnation()};
  engine_.SetSelf(self);
  SetSelf(self);
}

void MemberShell::OnMessage(Context& context, Message message) {
  if (message.method == LocalInbox<ShellEvent>::kMethod) {
    for (ShellEvent& event : shared_->inbox.Take()) HandleLocal(context, std::move(event));
    return;
  }
  if (!coordinator_.valid() || !(message.from == coordinator_)) return;  // S6
  StatusOr<CoordinatorMessage> decoded = DecodeCoordinatorMessage(message.method, message.body);
  if (!decoded.ok()) {
    LogWarning("from the coordinator: ", decoded.status().ToString());
    message.responder.Fail(decoded.status());
    return;
  }
  Feed(context, MemberEvent(std::move(decoded).value()));
}

void MemberShell::HandleLocal(Context& context, ShellEvent event) {
  if (auto* up = std::get_if<LinkUp>(&event)) {
    // The one that was lost has been heard again while it was looked for. Its session has begun,
    // and another one would end what runs in it.
    if (coordinator_.valid() && up->ref == coordinator_ && machine().connected()) return;
    if (coordinator_.valid()) context.Demonitor(coordinator_);
    coordinator_ = up->ref;
    context.Monitor(coordinator_);
    Feed(context, MemberEvent(CoordinatorUp{}));
  } else if (auto* refused = std::get_if<LinkRefused>(&event)) {
    shared_->Stop(refused->why);
  } else if (std::holds_alternative<LeaveNow>(event)) {
    const MemberMessage leave = LeaveCluster{machine().config().model};
    if (coordinator_.valid()) {
      (void)coordinator_.Tell(std::string(MessageName(leave)), MessageBody(leave));
    }
  } else if (auto* sync = std::get_if<UserSync>(&event)) {
    Feed(context, *sync);
  } else if (auto* cancel = std::get_if<UserCancel>(&event)) {
    Feed(context, *cancel);
  } else {
    Feed(context, std::get<MemberEvent>(std::move(event)));
  }
}

void MemberShell::OnPeer(Context& context, const PeerEvent& event) {
  if (!(event.ref == coordinator_) || shared_->stopped) return;
  switch (event.kind) {
    case PeerEvent::Kind::kSuspect: LogInfo("the coordinator is suspect: ", event.cause); return;
    case PeerEvent::Kind::kBusy:
    case PeerEvent::Kind::kFree: return;
    case PeerEvent::Kind::kRecovered:
      // After a mere suspicion nothing was given up, and a new session would abort the attempt.
      if (!machine().connected()) Feed(context, MemberEvent(CoordinatorUp{}));
      return;
    case PeerEvent::Kind::kUnreachable:
      LogWarning("the coordinator is not reachable: ", event.cause);
      Feed(context, MemberEvent(CoordinatorLost{event.cause}));
      return;
    case PeerEvent::Kind::kDied:
    case PeerEvent::Kind::kLeft:
    case PeerEvent::Kind::kRestarted:  // it knows nothing of us
      LogWarning("the coordinator is gone: ", event.cause);
      Feed(context, MemberEvent(CoordinatorLost{event.cause}));
      {
        std::lock_guard lock(shared_->mutex);
        if (shared_->search) shared_->search();
      }
      return;
  }
}

void MemberShell::Feed(Context& context, const TrainerEvent& event) {
  const std::string_view from = StateName(machine());
  MemberEffects effects = Step(event, Now());
  const Status status = Check();
  PC_CHECK(status.ok()) << status.ToString();
  PassFailpoint({role_name(), from, StateName(machine())});
  {
    std::lock_guard lock(shared_->mutex);
    shared_->joined = machine().joined();
    shared_->phase = machine().phase();
  }
  Publish();
  for (MemberEffect& effect : effects) CarryCommon(context, std::move(effect));
}

void MemberShell::CarryCommon(Context& context, MemberEffect effect) {
  if (auto* send = std::get_if<SendToCoordinator>(&effect)) {
    PassFailpoint({role_name(), "send", MessageName(send->message)});
    const Status sent = coordinator_.Tell(std::string(MessageName(send->message)),
                                          MessageBody(send->message), {IsLastWord(send->message)});
    // A lost session is noticed by the monitor, which is what recovers.
    if (!sent.ok()) LogWarning(MessageName(send->message), " not sent: ", sent.ToString());
    return;
  }
  if (auto* join = std::get_if<JoinGenerations>(&effect)) {
    if (const Status status = WorkFailpoint("join"); !status.ok()) {
      Post(GenerationsReady{join->key, status});
    } else {
      engine_.Join(*join);
    }
    return;
  }
  if (auto* close = std::get_if<CloseGeneration>(&effect)) {
    engine_.Close(close->generation);
    return;
  }
  if (auto* stop = std::get_if<StopMember>(&effect)) {
    shared_->Stop(stop->status);
    return;
  }
  if (auto* wait = std::get_if<WaitForPeer>(&effect)) {
    const bool is_busy = wait->time > Duration::zero();
    if (is_busy) LogInfo("waits for ", wait->member, ", which is busy: ", wait->why);
    engine_.PutOff(Now() + wait->time);
    return;
  }
  if (auto* prepare = std::get_if<PrepareAttempt>(&effect)) {
    attempt_ = *prepare;
    engine_.PutOff(Time());
  }
  const bool starts = std::holds_alternative<StartStream>(effect);
  Carry(context, std::move(effect));
  if (starts) ArmProgress(context);
}

void MemberShell::ArmProgress(Context& context) {
  if (!progress_timer_) progress_timer_ = context.SetTimer(Now() + kProgressInterval);
}

void MemberShell::OnTimer(Context& context, TimerId timer) {
  if (progress_timer_ != timer) return;
  progress_timer_.reset();
  if (machine().phase() != MemberPhase::kStreaming) return;
  SendProgress(context);
  ArmProgress(context);
}

void MemberShell::SendProgress(Context& context) {
  const FlowLane::Counters counters = engine_.counters();
  const MemberMessage progress =
      Progress{machine().key(), "streaming", counters.launched, counters.completed, counters.bytes};
  (void)coordinator_.Tell(std::string(MessageName(progress)), MessageBody(progress));
  context.ReportProgress(counters.bytes);
}

}  // namespace packcast
