#include "tests/runtime/sim/caller.h"

#include <iterator>
#include <utility>

#include "protocol/limits.h"
#include "runtime/actor/typed_ref.h"
#include "tests/runtime/sim/servant.h"

namespace packcast::rtsim {
namespace {

// In a run; more take longer than a run may, and show nothing new.
constexpr int kFloods = 10;

const char* MethodOf(Lane lane) {
  if (lane == Lane::kSingle) return "single";
  return lane == Lane::kWide ? "wide" : "default";
}

bool AnswersLater(Act act) { return act == Act::kLater || act == Act::kDrop; }

}  // namespace

Caller::Caller(Life* life)
    : life_(life), world_(life->world()), number_(++life->world().last_caller) {
  for (const std::string& host : world_.scenario.hosts) {
    for (const ServantPlan& plan : world_.scenario.servants) {
      if (!plan.sends) slots_[host + "/" + plan.name] = {};
    }
  }
}

Duration Caller::NextPause() {
  return world_.random.Between(Duration(0), world_.scenario.pause_max);
}

std::map<std::string, Caller::Slot>::iterator Caller::AnySlot() {
  auto slot = slots_.begin();
  std::advance(slot, static_cast<std::ptrdiff_t>(world_.random.Below(slots_.size())));
  return slot;
}

ActorRef Caller::AnyRef() { return AnySlot()->second.ref; }

ActorRef Caller::AnyLike(const ActorRef& ref) {
  if (ref.local() || !world_.random.Chance(0.5)) return ref;
  Slot& slot = senders_[ref.node() + "/" + ref.actor()];
  if (slot.ref.valid() && slot.ref == ref) return slot.ref;
  Connect(ref.node(), ref.actor(), &slot);
  return ref;
}

void Caller::Turn() {
  Random& random = world_.random;
  const auto slot = AnySlot();
  if (!slot->second.ref.valid()) {
    const size_t slash = slot->first.find('/');
    return Connect(slot->first.substr(0, slash), slot->first.substr(slash + 1), &slot->second);
  }
  const ActorRef ref = slot->second.ref;
  if (random.Chance(world_.scenario.killing)) return Kill(ref);
  if (random.Chance(world_.scenario.flooding)) return Flood(ref);
  for (int64_t k = random.Between(1, world_.scenario.burst_max); k > 0; --k) {
    Send(NewJob(ref), ref);
  }
  if (!open_.empty() && random.Chance(0.2)) {
    const auto& [job, reply] = open_[random.Below(open_.size())];
    world_.ledger.Cancelled(job);
    reply.Cancel();
  }
  if (open_.size() > 20) open_.erase(open_.begin(), open_.begin() + 10);
}

void Caller::Connect(const std::string& host, const std::string& actor, Slot* slot) {
  if (std::exchange(slot->is_connecting, true)) return;
  const Duration patience = world_.random.Between(Milliseconds(10), Seconds(2));
  life_->runtime()
      .ConnectAsync(world_.EndpointOf(host), actor, patience)
      .Then([self = shared_from_this(), slot](const StatusOr<ActorRef>& ref) {
        slot->is_connecting = false;
        if (ref.ok()) slot->ref = *ref;
        if (SaysReplaced(ref.status().message())) self->life_->OnReplaced();
      });
}

void Caller::Kill(const ActorRef& ref) {
  const std::string name = ref.node() + "/" + ref.actor();
  const bool restart = world_.random.Chance(0.5);
  world_.ledger.Killed(name, !ref.local());
  world_.kernel.Note(life_->host(), "kill", 0, [&] { return name; });
  Lineage* const local = LocalOf(ref);
  if (local != nullptr) local->is_ending = true;
  Lose(name, life_->runtime().Kill(ref, restart));
}

// More calls than may be open: the last are refused.
void Caller::Flood(const ActorRef& ref) {
  if (++world_.floods > kFloods) return;
  for (size_t k = 0; k < limits::kCallsInFlight + 100; ++k) {
    Job* const job = NewJob(ref);
    job->kind = Kind::kCall;
    job->act = Act::kReply;
    job->work = Duration(0);
    job->padding = 0;
    Send(job, ref);
  }
}

Lineage* Caller::LocalOf(const ActorRef& ref) const {
  return ref.local() ? world_.ledger.LineageOf(ref.actor(), ref.incarnation()) : nullptr;
}

Job* Caller::NewJob(const ActorRef& ref) {
  Random& random = world_.random;
  const Scenario& scenario = world_.scenario;
  Job* const job = world_.ledger.NewJob(number_, ref.node() + "/" + ref.actor());
  job->kind = static_cast<Kind>(random.Below(3));
  job->lane = static_cast<Lane>(random.Below(kLanes));
  if (random.Chance(0.4)) job->act = static_cast<Act>(random.Below(kActs));
  if (job->act == Act::kFail && !random.Chance(scenario.failing)) job->act = Act::kReply;
  if (AnswersLater(job->act) && job->lane >= Lane::kSingle) job->act = Act::kReply;
  if (random.Chance(0.3)) job->work = random.Between(Duration(0), Milliseconds(2));
  // Control work that takes long would keep callbacks from their thread.
  const bool may_be_slow = job->lane != Lane::kControl;
  if (may_be_slow && random.Chance(scenario.slow)) {
    job->work = random.Between(Duration(0), Milliseconds(200));
  }
  const Duration most = random.Chance(0.3) ? Milliseconds(100) : Seconds(5);
  job->deadline = world_.kernel.now() + random.Between(Milliseconds(1), most);
  if (random.Chance(0.1)) job->padding = random.Below(scenario.padding_max + 1);
  return job;
}

Future<int64_t> Caller::Send(Job* job, const ActorRef& ref) {
  job->addressee = world_.ledger.LineageOf(ref.actor(), ref.incarnation());
  world_.ledger.Sent(job, LocalOf(ref));
  if (job->kind == Kind::kTell) {
    const Status status = Tell(job, ref);
    if (!status.ok()) world_.ledger.Refused(job, status);
    world_.ledger.HandedOver(job, false);
    Lose(job->to, status);
    return {};
  }
  const Future<int64_t> reply = Call(job, ref);
  open_.emplace_back(job, reply);
  reply.Then([self = shared_from_this(), job](const StatusOr<int64_t>& result) {
    self->world_.ledger.Resolved(job, result);
    self->Lose(job->to, result.status());
  });
  return reply;
}

Status Caller::Tell(Job* job, const ActorRef& ref) {
  const ByteRange padding = job->Padding();
  const TellOptions options{.control = job->lane == Lane::kControl};
  const TypedRef<Servant> servant(ref);
  if (world_.random.Chance(0.5)) {
    return ref.Tell(MethodOf(job->lane), ValueArray{job->id, padding}, options);
  }
  if (job->lane == Lane::kSingle) {
    return servant.TellWith(options, &Servant::Single, job->id, padding);
  }
  if (job->lane == Lane::kWide) return servant.TellWith(options, &Servant::Wide, job->id, padding);
  return servant.TellWith(options, &Servant::Default, job->id, padding);
}

Future<int64_t> Caller::Call(Job* job, const ActorRef& ref) {
  const ByteRange padding = job->Padding();
  const CallOptions options{.deadline = job->deadline - world_.kernel.now(),
                            .idempotent = job->kind == Kind::kIdempotent,
                            .control = job->lane == Lane::kControl};
  Future<int64_t> reply;
  if (world_.random.Chance(0.5)) {
    // As CallMethod does.
    const char* const method = MethodOf(job->lane);
    const Future<Value> raw = ref.Call(method, ValueArray{job->id, padding}, options);
    world_.ledger.HandedOver(job, raw.ready());
    return internal::ConvertReply<int64_t>(raw, method);
  }
  const TypedRef<Servant> servant(ref);
  if (job->lane == Lane::kSingle) {
    reply = servant.CallWith(options, &Servant::Single, job->id, padding);
  } else if (job->lane == Lane::kWide) {
    reply = servant.CallWith(options, &Servant::Wide, job->id, padding);
  } else {
    reply = servant.CallWith(options, &Servant::Default, job->id, padding);
  }
  world_.ledger.HandedOver(job, reply.ready());
  return reply;
}

// A reference that leads nowhere is made anew.
void Caller::Lose(const std::string& name, const Status& status) {
  if (SaysReplaced(status.message())) life_->OnReplaced();
  const bool is_gone = status.code() == StatusCode::kPeerDied ||
                       status.code() == StatusCode::kNotFound ||
                       status.code() == StatusCode::kStale;
  const auto slot = slots_.find(name);
  if (is_gone && slot != slots_.end()) slot->second.ref = ActorRef();
}

}  // namespace packcast::rtsim
