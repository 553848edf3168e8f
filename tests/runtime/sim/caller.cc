#include "tests/runtime/sim/caller.h"

#include <utility>

#include "runtime/actor/typed_ref.h"

namespace packcast::rtsim {

Caller::Caller(Life* life)
    : life_(life), world_(life->world()), number_(++life->world().last_caller) {
  for (const std::string& host : world_.scenario.hosts) {
    for (const ServantPlan& plan : world_.scenario.servants) slots_[{host, plan.name}] = {};
  }
}

Duration Caller::NextPause() {
  return world_.random.Between(Duration(0), world_.scenario.pause_max);
}

void Caller::Turn() {
  Random& random = world_.random;
  auto slot = slots_.begin();
  std::advance(slot, static_cast<std::ptrdiff_t>(random.Below(slots_.size())));
  if (!slot->second.ref.valid()) return Connect(slot->first, &slot->second);
  const ActorRef ref = slot->second.ref;
  for (int64_t k = random.Between(1, world_.scenario.burst_max); k > 0; --k) {
    Send(slot->first, ref);
  }
  if (!open_.empty() && random.Chance(0.2)) open_[random.Below(open_.size())].Cancel();
  if (open_.size() > 20) open_.erase(open_.begin(), open_.begin() + 10);
}

void Caller::Connect(const Target& target, Slot* slot) {
  if (std::exchange(slot->is_connecting, true)) return;
  const Duration patience = world_.random.Between(Milliseconds(10), Seconds(2));
  life_->runtime()
      .ConnectAsync(Life::EndpointOf(target.first), target.second, patience)
      .Then([self = shared_from_this(), slot](const StatusOr<ActorRef>& ref) {
        slot->is_connecting = false;
        if (ref.ok()) slot->ref = *ref;
      });
}

Job* Caller::MakeJob(const Target& target) {
  Random& random = world_.random;
  const Scenario& scenario = world_.scenario;
  Job* const job = world_.ledger.NewJob(number_, target.first + "/" + target.second);
  job->kind = static_cast<Kind>(random.Below(3));
  job->lane = static_cast<Lane>(random.Below(kLanes));
  constexpr Act kActs[] = {Act::kError, Act::kThrow, Act::kLater, Act::kDrop};
  if (random.Chance(0.3)) job->act = kActs[random.Below(std::size(kActs))];
  if (random.Chance(scenario.failing)) job->act = Act::kFail;
  const bool answers_later = job->act == Act::kLater || job->act == Act::kDrop;
  if (answers_later && job->lane >= Lane::kSingle) job->act = Act::kReply;
  if (random.Chance(0.3)) job->work = random.Between(Duration(0), Milliseconds(2));
  // Control work that takes long would keep callbacks from their thread.
  const bool may_be_slow = job->lane != Lane::kControl;
  if (may_be_slow && random.Chance(scenario.slow))
    job->work = random.Between(Duration(0), Milliseconds(200));
  const Duration most = random.Chance(0.3) ? Milliseconds(100) : Seconds(5);
  job->deadline = world_.kernel.now() + random.Between(Milliseconds(1), most);
  if (random.Chance(0.1)) job->padding = random.Below(scenario.padding_max + 1);
  return job;
}

void Caller::Send(const Target& target, const ActorRef& ref) {
  Job* const job = MakeJob(target);
  const std::string padding(job->padding, 'x');
  world_.ledger.Sent(job);
  job->kind == Kind::kTell ? Tell(job, ref, padding) : Call(job, ref, padding);
}

namespace {

const char* MethodOf(Lane lane) {
  if (lane == Lane::kSingle) return "single";
  return lane == Lane::kWide ? "wide" : "default";
}

}  // namespace

void Caller::Tell(Job* job, const ActorRef& ref, const std::string& padding) {
  const TellOptions options{.control = job->lane == Lane::kControl};
  const TypedRef<Servant> servant(ref);
  Status status;
  if (world_.random.Chance(0.5)) {
    status = ref.Tell(MethodOf(job->lane), ValueArray{job->id, padding}, options);
  } else if (job->lane == Lane::kSingle) {
    status = servant.TellWith(options, &Servant::Single, job->id, padding);
  } else if (job->lane == Lane::kWide) {
    status = servant.TellWith(options, &Servant::Wide, job->id, padding);
  } else {
    status = servant.TellWith(options, &Servant::Default, job->id, padding);
  }
  world_.ledger.Told(job, status);
  Lose({ref.node(), ref.actor()}, status);
}

void Caller::Call(Job* job, const ActorRef& ref, const std::string& padding) {
  CallOptions options{.deadline = job->deadline - world_.kernel.now(),
                      .idempotent = job->kind == Kind::kIdempotent,
                      .control = job->lane == Lane::kControl};
  const TypedRef<Servant> servant(ref);
  Future<int64_t> reply;
  if (world_.random.Chance(0.5)) {
    reply = CallMethod<int64_t>(ref, MethodOf(job->lane), options, job->id, padding);
  } else if (job->lane == Lane::kSingle) {
    reply = servant.CallWith(options, &Servant::Single, job->id, padding);
  } else if (job->lane == Lane::kWide) {
    reply = servant.CallWith(options, &Servant::Wide, job->id, padding);
  } else {
    reply = servant.CallWith(options, &Servant::Default, job->id, padding);
  }
  open_.push_back(reply);
  const Target target{ref.node(), ref.actor()};
  reply.Then([self = shared_from_this(), job, target](const StatusOr<int64_t>& result) {
    self->OnResult(job, target, result);
  });
}

void Caller::OnResult(Job* job, const Target& target, const StatusOr<int64_t>& result) {
  world_.ledger.Resolved(job, result);
  Lose(target, result.status());
}

// A reference that leads nowhere is made anew.
void Caller::Lose(const Target& target, const Status& status) {
  const bool is_gone = status.code() == StatusCode::kPeerDied ||
                       status.code() == StatusCode::kNotFound ||
                       status.code() == StatusCode::kStale;
  if (is_gone) slots_.at(target).ref = ActorRef();
}

}  // namespace packcast::rtsim
