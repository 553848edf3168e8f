#include <utility>

#include "runtime/base/check.h"
#include "tests/runtime/sim/caller.h"
#include "tests/runtime/sim/observer.h"
#include "tests/runtime/sim/servant.h"
#include "tests/runtime/sim/world.h"

namespace packcast::rtsim {

std::string World::EndpointOf(const std::string& host) const { return lives.at(host)->endpoint(); }

void World::Supervise(std::shared_ptr<Life> life) {
  const auto supervise = [this, life] {
    life->End(false);
    life->Join();
    if (is_ending || lives.at(life->host()) != life) return;
    Life::Begin(this, life->host(), random.Chance(0.5));
  };
  supervisors.push_back(kernel.Start(supervise, outside));
}

void World::JoinSupervised() {
  for (size_t k = 0; k < supervisors.size(); ++k) kernel.Join(supervisors[k]);
}

Life::Life(World* world, std::string host, std::string endpoint)
    : world_(world), host_(std::move(host)), endpoint_(std::move(endpoint)) {}

std::shared_ptr<Life> Life::Begin(World* world, const std::string& host, bool at_same_endpoint) {
  const bool is_first = world->lives.count(host) == 0;
  const std::string endpoint = at_same_endpoint && !is_first
                                   ? world->EndpointOf(host)
                                   : "tcp://127.0.0.1:" + std::to_string(++world->last_port);
  auto life = std::make_shared<Life>(world, host, endpoint);
  life->process_ = world->kernel.NewProcess(host);
  life->thread_ = world->kernel.Start([life] { life->Main(); }, life->process_);
  world->lives[host] = life;
  return life;
}

bool Life::Order(std::function<void(Life&)> work) {
  if (has_closed_) return false;
  orders_.push_back(std::move(work));
  world_->kernel.WakeAll(this);
  return true;
}

void Life::End(bool is_killed) {
  if (is_killed) world_->network.Crash(process_);
  is_over_ = true;
  world_->kernel.WakeAll(this);
}

bool SaysReplaced(const std::string& text) {
  return text.find("refused: a later process was started") != std::string::npos;
}

void Life::OnReplaced() {
  if (process_->is_dead || std::exchange(was_told_, true)) return;
  if (world_->twins.count(host_) == 0) {
    world_->ledger.Violated(host_ + " is told that it was replaced, and was not");
  }
  process_->is_replaced = true;
  world_->Supervise(shared_from_this());
}

void Life::Join() { world_->kernel.Join(thread_); }

void Life::KeepServants() {
  for (const ServantPlan& plan : world_->scenario.servants) {
    if (runtime_->Find(plan.name).ok()) continue;
    const auto servant = Servant::Spawn(this, plan);
    PC_CHECK(servant.ok()) << servant.status();
  }
}

void Life::FailServants() {
  for (const ServantPlan& plan : world_->scenario.servants) {
    const auto ref = runtime_->Find(plan.name);
    Lineage* const lineage =
        ref.ok() ? world_->ledger.LineageOf(ref->actor(), ref->incarnation()) : nullptr;
    if (lineage == nullptr) continue;
    world_->ledger.Failed(lineage);
    (void)runtime_->Kill(*ref, /*restart=*/true);
  }
}

// In order: what it has accepted runs.
void Life::MaybeStopOne() {
  if (!world_->random.Chance(world_->scenario.stopping)) return;
  const auto& servants = world_->scenario.servants;
  const auto ref = runtime_->Find(servants[world_->random.Below(servants.size())].name);
  if (!ref.ok()) return;
  Lineage* const lineage = world_->ledger.LineageOf(ref->actor(), ref->incarnation());
  if (lineage == nullptr) return;  // it begins
  lineage->may_leave = true;
  lineage->is_ending = true;
  world_->kernel.Note(host_, "stop", 0, [&] { return ref->ToString(); });
  (void)runtime_->Stop(*ref, Milliseconds(100));
}

void Life::Main() {
  Kernel& kernel = world_->kernel;
  RuntimeOptions options = world_->scenario.options;
  options.name = host_;
  options.bind = endpoint_;
  StatusOr<std::unique_ptr<Runtime>> runtime = Runtime::Start(options);
  PC_CHECK(runtime.ok()) << runtime.status();
  runtime_ = *std::move(runtime);
  const auto observer = NewActor<Observer>(*runtime_, this).Name("observer").Spawn();
  PC_CHECK(observer.ok()) << observer.status();
  auto caller = std::make_shared<Caller>(this);
  while (!is_over_ || !orders_.empty()) {
    if (!orders_.empty()) {
      const auto order = std::move(orders_.front());
      orders_.pop_front();
      order(*this);
      continue;
    }
    KeepServants();
    const Duration pause = world_->is_quiet ? Seconds(1) : caller->NextPause();
    if (kernel.Wait(this, kernel.now() + pause) || world_->is_quiet) continue;
    MaybeStopOne();
    caller->Turn();
  }
  has_closed_ = true;
  caller = nullptr;
  Close();
}

void Life::Close() {
  process_->is_leaving = true;
  runtime_->Shutdown(process_->is_dead ? Duration(0) : Seconds(1));
  const size_t open = world_->ledger.Open(process_);
  if (open > 0) {
    world_->ledger.Violated(std::to_string(open) + " calls of " + host_ +
                            " have no result when it has shut down");
  }
  runtime_ = nullptr;
  if (!process_->is_dead) process_->gone_at = world_->kernel.now();
}

}  // namespace packcast::rtsim
