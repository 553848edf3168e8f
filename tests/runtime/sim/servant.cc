#include "tests/runtime/sim/servant.h"

#include <stdexcept>
#include <utility>

namespace packcast::rtsim {

void Servant::Methods(MethodTable<Servant>& table) {
  table.Add("default", &Servant::Default)
      .Add("single", &Servant::Single, {.group = "single"})
      .Add("wide", &Servant::Wide, {.group = "wide"});
}

StatusOr<TypedRef<Servant>> Servant::Spawn(Life* life, const ServantPlan& plan) {
  Lineage* const lineage =
      life->world().ledger.NewLineage(life->process(), life->host() + "/" + plan.name);
  const auto most = [&](Lane lane) -> int& {
    return lineage->most_at_once[static_cast<size_t>(lane)];
  };
  most(Lane::kDefault) = plan.concurrency;
  most(Lane::kControl) = plan.concurrent_control ? 1 : plan.concurrency;
  lineage->shares_lane = !plan.concurrent_control;
  auto builder = NewActor<Servant>(life->runtime(), life, lineage);
  builder.Name(plan.name).Restart(plan.restart).Window(plan.window).Concurrency(plan.concurrency);
  builder.Group("single").Group("wide", most(Lane::kWide));
  if (plan.concurrent_control) builder.ConcurrentControl();
  return builder.Spawn();
}

void Servant::OnStart(Context& context) { life_->world().ledger.Started(lineage_, context.life()); }
void Servant::OnTimer(Context&, TimerId) {}
void Servant::OnStop(Context&) { life_->world().ledger.Stopped(lineage_); }

Future<int64_t> Servant::Default(Context& context, int64_t id, const std::string&) {
  const Job& job = *life_->world().ledger.Find(id);
  const StatusOr<int64_t> result = Do(context, id, job.lane);
  const Promise<int64_t> promise;
  if (job.act == Act::kDrop) return promise.future();
  if (job.act != Act::kLater) return MakeReady<int64_t>(result);
  // Answers from a thread of its own, as whatever an actor waits for might.
  Kernel& kernel = life_->world().kernel;
  const Duration wait = life_->world().random.Between(Duration(0), Milliseconds(20));
  kernel.Start([&kernel, wait, promise, result] {
    kernel.Sleep(wait);
    promise.Set(result);
  });
  return promise.future();
}

StatusOr<int64_t> Servant::Single(Context& context, int64_t id, const std::string&) {
  return Do(context, id, Lane::kSingle);
}
StatusOr<int64_t> Servant::Wide(Context& context, int64_t id, const std::string&) {
  return Do(context, id, Lane::kWide);
}

StatusOr<int64_t> Servant::Do(Context& context, int64_t id, Lane lane) {
  World& world = life_->world();
  Job* const job = world.ledger.Find(id);
  world.ledger.Began(job, lineage_, lane);
  if (job->work > Duration(0)) world.kernel.Sleep(job->work);
  if (job->act == Act::kFail) context.Fail(Internal("#" + std::to_string(id) + " fails it"));
  world.ledger.Ended(job, lineage_, lane);
  if (job->act == Act::kThrow) throw std::runtime_error("#" + std::to_string(id) + " throws");
  if (job->act == Act::kError) return Internal("#" + std::to_string(id) + " went wrong");
  return id;
}

}  // namespace packcast::rtsim
