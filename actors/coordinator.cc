#include "actors/coordinator.h"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "actors/coordinator_machine.h"
#include "actors/shared_bodies.h"
#include "actors/states.h"
#include "runtime/actor/actor.h"
#include "runtime/actor/runtime.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/log.h"
#include "runtime/base/random.h"

namespace packcast {
namespace {

constexpr size_t kSubscribersMax = 64;
// Members and those who were not told yet that they are refused or superseded.
constexpr size_t kKnownMax = 2 * limits::kMembers;
constexpr Duration kStopWait = Seconds(2);

struct StopFlag {
  std::mutex mutex;
  std::condition_variable changed;
  bool stopped = false;
};

// The machine's shell: messages and peer events in, effects out.
class CoordinatorShell : public Actor {
 public:
  CoordinatorShell(CoordinatorConfig config, std::function<void(const Value&)> on_event,
                   std::shared_ptr<StopFlag> stop)
      : machine_(std::move(config)), on_event_(std::move(on_event)), stop_(std::move(stop)) {}

  void OnMessage(Context& context, Message message) override;
  void OnTimer(Context& context, TimerId timer) override {
    if (timer_ != timer) return;
    timer_.reset();
    Feed(context, Tick{});
  }
  void OnPeer(Context& context, const PeerEvent& event) override;

 private:
  void Feed(Context& context, const CoordinatorEvent& event);
  void Carry(CoordinatorEffect effect, SharedBodies* bodies);
  void Carry(const SendToMember& send, SharedBodies* bodies);
  void Arm(Context& context);
  void Subscribe(Message message);
  void Tell(const Value& event);

  CoordinatorMachine machine_;
  const std::function<void(const Value&)> on_event_;
  const std::shared_ptr<StopFlag> stop_;
  std::map<MemberId, ActorRef> members_;
  std::vector<MemberId> refused_;  // out for good: forgotten after this step
  std::map<uint64_t, Responder> calls_;
  std::vector<ActorRef> subscribers_;
  uint64_t last_token_ = 0;
  std::optional<TimerId> timer_;
  std::optional<Time> timer_at_;
};

void CoordinatorShell::OnMessage(Context& context, Message message) {
  if (IsMemberMessage(message.method)) {
    StatusOr<MemberMessage> decoded = DecodeMemberMessage(message.method, message.body);
    if (!decoded.ok()) {
      LogWarning("from ", message.from.ToString(), ": ", decoded.status().ToString());
      message.responder.Fail(decoded.status());
      return;
    }
    const MemberId from{message.from.actor(), message.from.incarnation()};
    if (std::holds_alternative<JoinCluster>(*decoded)) {
      if (members_.size() >= kKnownMax && !members_.contains(from)) return;  // S7
      members_[from] = message.from;
      context.Monitor(message.from);
    }
    if (!members_.contains(from)) return;
    Feed(context, FromMember{from, std::move(decoded).value()});
    return;
  }
  if (!message.responder.valid()) {
    LogWarning("unknown message \"", message.method, "\" from ", message.from.ToString());
    return;
  }
  if (message.method == "subscribe") {
    Subscribe(std::move(message));
    return;
  }
  const uint64_t token = ++last_token_;
  calls_[token] = std::move(message.responder);
  Feed(context, ControlCall{token, message.method, std::move(message.body)});
}

void CoordinatorShell::Subscribe(Message message) {
  const bool again =
      std::find(subscribers_.begin(), subscribers_.end(), message.from) != subscribers_.end();
  if (!again && subscribers_.size() >= kSubscribersMax) {
    message.responder.Fail(ResourceExhausted("64 subscribers are the limit"));
    return;
  }
  if (!again) subscribers_.push_back(message.from);
  message.responder.Reply(ValueMap{{"subscribed", true}});
}

void CoordinatorShell::OnPeer(Context& context, const PeerEvent& event) {
  const MemberId member{event.ref.actor(), event.ref.incarnation()};
  switch (event.kind) {
    case PeerEvent::Kind::kSuspect: LogInfo(member.name, " is suspect: ", event.cause); return;
    case PeerEvent::Kind::kRecovered: Feed(context, MemberBack{member}); return;
    case PeerEvent::Kind::kBusy:
    case PeerEvent::Kind::kFree:
      LogInfo(member.name, " is ", PeerEventKindName(event.kind), ": ", event.cause);
      Feed(context, MemberBusy{member, event.busy_until, event.cause});
      return;
    case PeerEvent::Kind::kUnreachable:
      Feed(context, MemberLost{member, Unavailable(event.cause)});
      return;
    case PeerEvent::Kind::kDied:
    case PeerEvent::Kind::kLeft:
    case PeerEvent::Kind::kRestarted: {
      // The life that had joined is gone; the next one joins anew.
      Feed(context, MemberLost{member, event.kind == PeerEvent::Kind::kLeft
                                           ? Cancelled("left: " + event.cause)
                                           : PeerDied(event.cause)});
      context.Demonitor(event.ref);
      members_.erase(member);
      return;
    }
  }
}

void CoordinatorShell::Feed(Context& context, const CoordinatorEvent& event) {
  const std::string_view from = StateName(machine_);
  CoordinatorEffects effects = machine_.On(event, Now());
  const Status status = machine_.CheckInvariants();
  PC_CHECK(status.ok()) << status.ToString();
  PassFailpoint({"coordinator", from, StateName(machine_)});
  SharedBodies bodies;
  for (CoordinatorEffect& effect : effects) Carry(std::move(effect), &bodies);
  for (const MemberId& refused : std::exchange(refused_, {})) {
    const auto member = members_.extract(refused);
    if (!member.empty()) context.Demonitor(member.mapped());
  }
  Arm(context);
}

void CoordinatorShell::Arm(Context& context) {
  const std::optional<Time> next = machine_.NextDeadline();
  if (next == timer_at_ && timer_) return;
  if (timer_) context.Cancel(*timer_);
  timer_.reset();
  timer_at_ = next;
  if (next) timer_ = context.SetTimer(*next);
}

void CoordinatorShell::Carry(const SendToMember& send, SharedBodies* bodies) {
  const auto member = members_.find(send.to);
  if (member == members_.end()) return;
  const auto* expelled = std::get_if<Expelled>(send.message.get());
  if (expelled != nullptr && !expelled->may_rejoin) refused_.push_back(send.to);
  const std::string name(MessageName(*send.message));
  PassFailpoint({"coordinator", "send", name});
  const StatusOr<SharedBody> body = bodies->Of(send.message);
  const Status sent = body.ok() ? member->second.Tell(name, *body) : body.status();
  // Noticed and recovered from by the monitor or a phase deadline.
  if (!sent.ok()) LogInfo(name, " to ", ToString(send.to), ": ", sent.ToString());
}

void CoordinatorShell::Carry(CoordinatorEffect effect, SharedBodies* bodies) {
  if (const auto* send = std::get_if<SendToMember>(&effect)) {
    Carry(*send, bodies);
  } else if (auto* reply = std::get_if<ReplyControl>(&effect)) {
    auto call = calls_.extract(reply->token);
    if (call.empty()) return;
    if (reply->status.ok()) {
      call.mapped().Reply(std::move(reply->body));
    } else {
      call.mapped().Fail(reply->status);
    }
  } else if (auto* publish = std::get_if<PublishEvent>(&effect)) {
    Tell(publish->event);
  } else if (std::holds_alternative<StopCoordinator>(effect)) {
    std::lock_guard lock(stop_->mutex);
    stop_->stopped = true;
    stop_->changed.notify_all();
  }
}

void CoordinatorShell::Tell(const Value& event) {
  if (on_event_) on_event_(event);
  if (subscribers_.empty()) return;
  const StatusOr<SharedBody> body = SharedBody::Make(event);
  if (!body.ok()) {
    LogError("an event is lost: ", body.status().ToString());
    return;
  }
  std::erase_if(subscribers_, [&](const ActorRef& ref) {
    const Status sent = ref.Tell("event", *body);
    // A full window loses this event for a slow reader; a gone one is forgotten.
    return !sent.ok() && sent.code() != StatusCode::kResourceExhausted;
  });
}

Status CheckPolicy(const CoordinatorOptions& options) {
  const ContractPolicy& policy = options.policy;
  if (policy.buffer_bytes < limits::kBufferBytesMin ||
      policy.buffer_bytes > limits::kBufferBytesMax) {
    return InvalidArgument("buffer size " + std::to_string(policy.buffer_bytes) +
                           " is out of range [256, 64 GiB]");
  }
  if (policy.buffer_count < limits::kBufferCountMin ||
      policy.buffer_count > limits::kBufferCountMax) {
    return InvalidArgument("buffer count " + std::to_string(policy.buffer_count) +
                           " is out of range [1, 64]");
  }
  if (options.min_replicas == 0) return InvalidArgument("min_replicas must be at least 1");
  return OkStatus();
}

}  // namespace

class Coordinator::Impl {
 public:
  Runtime* runtime = nullptr;
  ActorRef ref;
  std::shared_ptr<StopFlag> stop = std::make_shared<StopFlag>();
};

Coordinator::Coordinator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

StatusOr<std::unique_ptr<Coordinator>> Coordinator::Start(Runtime* runtime,
                                                          CoordinatorOptions options) {
  PC_RETURN_IF_ERROR(CheckPolicy(options));
  auto impl = std::make_unique<Impl>();
  impl->runtime = runtime;
  CoordinatorConfig config;
  config.model = options.model;
  config.term = Term{1, RandomIncarnation().value};
  config.policy = options.policy;
  config.deadlines = options.deadlines;
  config.min_replicas = options.min_replicas;
  config.below_min = options.below_min;
  config.commit = options.commit;
  config.max_attempts = options.max_attempts;
  PC_ASSIGN_OR_RETURN(impl->ref, runtime->Spawn("coordinator", std::make_unique<CoordinatorShell>(
                                                                   std::move(config),
                                                                   options.on_event, impl->stop)));
  return std::unique_ptr<Coordinator>(new Coordinator(std::move(impl)));
}

Coordinator::~Coordinator() {
  // Bounded; an actor that is still busy then is stopped by the runtime's own shutdown.
  (void)impl_->runtime->Stop(impl_->ref, kStopWait);
}

bool Coordinator::WaitStopped(Duration max_wait) {
  std::unique_lock lock(impl_->stop->mutex);
  return impl_->stop->changed.wait_for(lock, max_wait, [this] { return impl_->stop->stopped; });
}

}  // namespace packcast
