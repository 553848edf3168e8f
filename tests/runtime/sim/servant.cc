#include "tests/runtime/sim/servant.h"

#include <stdexcept>
#include <utility>
#include <vector>

namespace packcast::rtsim {
namespace {

constexpr int64_t kBounces = 4;

}  // namespace

Servant::Servant(Life* life, Lineage* lineage, ServantPlan plan)
    : life_(life), world_(life->world()), lineage_(lineage), plan_(std::move(plan)) {
  for (std::shared_ptr<Caller>& caller : callers_) caller = std::make_shared<Caller>(life);
  if (lineage->shares_lane) {
    callers_[static_cast<size_t>(Lane::kControl)] = callers_[static_cast<size_t>(Lane::kDefault)];
  }
}

std::shared_ptr<Caller> Servant::CallerOf(Lane lane) const {
  const bool is_one = lineage_->most_at_once[static_cast<size_t>(lane)] == 1;
  return is_one ? callers_[static_cast<size_t>(lane)] : std::make_shared<Caller>(life_);
}

void Servant::Methods(MethodTable<Servant>& table) {
  table.Add("default", &Servant::Default)
      .Add("single", &Servant::Single, {.group = "single"})
      .Add("wide", &Servant::Wide, {.group = "wide"});
}

StatusOr<TypedRef<Servant>> Servant::Spawn(Life* life, const ServantPlan& plan, Lineage** made) {
  Lineage* const lineage =
      life->world().ledger.NewLineage(life->process(), life->host() + "/" + plan.name);
  if (made != nullptr) *made = lineage;
  const auto most = [&](Lane lane) -> int& {
    return lineage->most_at_once[static_cast<size_t>(lane)];
  };
  most(Lane::kDefault) = plan.concurrency;
  most(Lane::kControl) = plan.concurrent_control ? 1 : plan.concurrency;
  lineage->shares_lane = !plan.concurrent_control;
  auto builder = NewActor<Servant>(life->runtime(), life, lineage, plan);
  builder.Name(plan.name).Restart(plan.restart).Window(plan.window).Concurrency(plan.concurrency);
  builder.Group("single").Group("wide", most(Lane::kWide));
  if (plan.concurrent_control) builder.ConcurrentControl();
  return builder.Spawn();
}

void Servant::OnStart(Context& context) {
  present_ = context.life();
  world_.ledger.Started(lineage_, present_, context.self().incarnation());
  if (plan_.sends) context.SetTimer(context.now() + callers_[0]->NextPause());
}

void Servant::OnStop(Context&) { world_.ledger.Stopped(lineage_); }

void Servant::OnTimer(Context& context, TimerId timer) {
  const auto set = lineage_->timers.find(timer.value);
  if (set != lineage_->timers.end()) {
    if (context.now() < set->second)
      world_.ledger.Violated("a timer of " + lineage_->name + " comes too early");
    lineage_->timers.erase(set);
    return Came(world_, lineage_, present_, context, "timer");
  }
  if (!plan_.sends || world_.is_quiet) return;
  const std::shared_ptr<Caller> caller = CallerOf(Lane::kControl);
  caller->Turn();
  if (plan_.links) Link(context, caller->AnyRef());
  context.SetTimer(context.now() + caller->NextPause());
}

Future<int64_t> Servant::Default(Context& context, int64_t id, const ByteRange& padding) {
  const Job& job = *world_.ledger.Find(id);
  const StatusOr<int64_t> result = Do(context, id, job.lane, padding);
  const Promise<int64_t> promise;
  if (job.act == Act::kDrop) return promise.future();
  if (job.act != Act::kLater) return MakeReady<int64_t>(result);
  // As whatever an actor waits for might.
  Kernel& kernel = world_.kernel;
  const Duration wait = world_.random.Between(Duration(0), Milliseconds(20));
  kernel.Start([&kernel, wait, promise, result] {
    kernel.Sleep(wait);
    promise.Set(result);
  });
  return promise.future();
}

StatusOr<int64_t> Servant::Single(Context& context, int64_t id, const ByteRange& padding) {
  return Do(context, id, Lane::kSingle, padding);
}
StatusOr<int64_t> Servant::Wide(Context& context, int64_t id, const ByteRange& padding) {
  return Do(context, id, Lane::kWide, padding);
}

StatusOr<int64_t> Servant::Do(Context& context, int64_t id, Lane lane, const ByteRange& padding) {
  Job* const job = world_.ledger.Find(id);
  if (!(padding == job->Padding())) {
    world_.ledger.Violated("#" + std::to_string(id) + " came with other bytes than it had");
  }
  world_.ledger.Began(job, lineage_, lane);
  if (context.life() != present_) world_.ledger.Violated("another life: " + lineage_->name);
  if (job->work > Duration(0)) world_.kernel.Sleep(job->work);
  DoAct(context, *job);
  world_.ledger.Ended(lineage_, lane);
  if (job->act == Act::kThrow) throw std::runtime_error("#" + std::to_string(id) + " throws");
  if (job->act == Act::kError) return Internal("#" + std::to_string(id) + " went wrong");
  return id;
}

void Servant::DoAct(Context& context, const Job& job) {
  const std::shared_ptr<Caller> caller = CallerOf(job.lane);
  switch (job.act) {
    case Act::kReply:
    case Act::kError:
    case Act::kThrow:
    case Act::kLater:
    case Act::kDrop: return;
    case Act::kFail:
      world_.ledger.Failed(lineage_);
      return context.Fail(Internal("#" + std::to_string(job.id) + " fails it"));
    case Act::kNudge: return Nudge(context, *caller);
    case Act::kBounce: return Bounce(context, *caller);
    case Act::kSpawn: return SpawnChild(*caller);
    case Act::kTimer: return SetTimer(context);
    case Act::kPost: return Post(context);
    case Act::kAwait: return Await(context, *caller);
  }
}

void Servant::Link(Context& context, const ActorRef& ref) {
  if (!ref.valid()) return;
  Lineage* const other = world_.ledger.LineageOf(ref.actor(), ref.incarnation());
  if (other == nullptr) return;
  world_.ledger.Linked(lineage_, other);
  context.Link(ref);
}

void Servant::Nudge(Context& context, Caller& caller) {
  Job* const job = caller.NewJob(context.self());
  job->lane = Lane::kControl;
  job->act = Act::kReply;
  job->work = Duration(0);
  caller.Send(job, context.self());
}

void Servant::Bounce(Context& context, Caller& caller) {
  if (!context.sender().valid()) return;
  // By references that are equal, and may have come in several ways.
  for (int64_t k = world_.random.Between(1, kBounces); k > 0; --k) {
    const ActorRef sender = caller.AnyLike(context.sender());
    Job* const job = caller.NewJob(sender);
    job->act = Act::kReply;  // it ends some time
    caller.Send(job, sender);
  }
}

// At most one at a time; it gets a message, and lives as long as this life.
void Servant::SpawnChild(Caller& caller) {
  ServantPlan plan;
  plan.name = plan_.name + "/child";
  Lineage* lineage = nullptr;
  const StatusOr<TypedRef<Servant>> child = Spawn(life_, plan, &lineage);
  if (!child.ok()) return;
  lineage->parent = lineage_;
  lineage->parent_life = present_;
  Job* const job = caller.NewJob(child->ref());
  job->act = Act::kReply;
  caller.Send(job, child->ref());
}

void Servant::SetTimer(Context& context) {
  const Time when = context.now() + world_.random.Between(Duration(0), Milliseconds(300));
  const TimerId timer = context.SetTimer(when);
  // Beside other handlers it may have come by now.
  if (lineage_->most_at_once[0] > 1 || !lineage_->shares_lane) return;
  if (world_.random.Chance(0.3)) return context.Cancel(timer);
  lineage_->timers[timer.value] = when;
}

void Servant::Post(Context& context) {
  const std::vector<int64_t> before = world_.ledger.Waiting(*lineage_);
  ++lineage_->expected;
  // Not `this`: if the work comes too late, it is gone.
  context.Post([&world = world_, lineage = lineage_, life = present_, before](Context& later) {
    Came(world, lineage, life, later, "posted work");
    // What is queued at the end of a runtime's drain is cancelled.
    const Process& process = *lineage->process;
    if (process.is_dead || process.is_leaving || lineage->most_at_once[0] > 1) return;
    for (const int64_t id : before) {
      const Job& job = *world.ledger.Find(id);
      const bool may_be_dropped =
          job.kind != Kind::kTell && (job.is_cancelled || job.deadline <= world.kernel.now());
      if (job.where != nullptr || job.result || may_be_dropped) continue;
      world.ledger.Violated("posted work runs before #" + std::to_string(id) +
                            ", which was there before it");
    }
  });
}

void Servant::Await(Context& context, Caller& caller) {
  // Another one's answer may come when this life is over.
  const auto& servants = world_.scenario.servants;
  const auto other = life_->runtime().Find(servants[world_.random.Below(servants.size())].name);
  const ActorRef callee = other.ok() ? *other : context.self();
  Job* const job = caller.NewJob(callee);
  job->act = Act::kReply;
  if (job->kind == Kind::kTell) job->kind = Kind::kCall;
  ++lineage_->expected;
  context.Await<int64_t>(caller.Send(job, callee),
                         [&world = world_, lineage = lineage_, life = present_](
                             Context& later, const StatusOr<int64_t>&) {
                           Came(world, lineage, life, later, "an awaited result");
                         });
}

void Servant::Came(World& world, Lineage* lineage, int life, Context& context,
                   std::string_view what) {
  if (lineage->process->is_dead) return;
  if (!lineage->is_alive || context.life() != life) {
    world.ledger.Violated(std::string(what) + " of a past life of " + lineage->name);
  }
  if (what != "timer") --lineage->expected;
}

}  // namespace packcast::rtsim
