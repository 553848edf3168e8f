#include <utility>

#include "runtime/base/check.h"
#include "tests/runtime/sim/caller.h"
#include "tests/runtime/sim/servant.h"
#include "tests/runtime/sim/world.h"

namespace packcast::rtsim {

Life::Life(World* world, std::string host) : world_(world), host_(std::move(host)) {}

std::string Life::EndpointOf(const std::string& host) { return "tcp://127.0.0.1:70" + host; }

std::shared_ptr<Life> Life::Begin(World* world, const std::string& host) {
  auto life = std::make_shared<Life>(world, host);
  life->process_ = world->kernel.NewProcess(host);
  life->thread_ = world->kernel.Start([life] { life->Main(); }, life->process_);
  world->lives[host] = life;
  return life;
}

void Life::Order(std::function<void(Life&)> work) {
  orders_.push_back(std::move(work));
  world_->kernel.WakeAll(this);
}

void Life::End(bool is_killed) {
  if (is_killed) world_->network.Crash(process_);
  is_over_ = true;
  world_->kernel.WakeAll(this);
}

void Life::Join() { world_->kernel.Join(thread_); }

void Life::SpawnServants() {
  for (const ServantPlan& plan : world_->scenario.servants) {
    const auto servant = Servant::Spawn(this, plan);
    PC_CHECK(servant.ok()) << servant.status();
  }
  for (int k = 0; k < world_->scenario.callers; ++k) {
    const auto client =
        NewActor<Client>(*runtime_, this).Name("client/" + std::to_string(k)).Spawn();
    PC_CHECK(client.ok()) << client.status();
  }
}

void Life::Main() {
  Kernel& kernel = world_->kernel;
  RuntimeOptions options = world_->scenario.options;
  options.name = host_;
  options.bind = EndpointOf(host_);
  StatusOr<std::unique_ptr<Runtime>> runtime = Runtime::Start(options);
  PC_CHECK(runtime.ok()) << runtime.status();
  runtime_ = *std::move(runtime);
  SpawnServants();
  auto caller = std::make_shared<Caller>(this);
  while (!is_over_) {
    if (!orders_.empty()) {
      const auto order = std::move(orders_.front());
      orders_.pop_front();
      order(*this);
      continue;
    }
    const Duration pause = world_->is_quiet ? Seconds(1) : caller->NextPause();
    if (kernel.Wait(this, kernel.now() + pause)) continue;
    if (!world_->is_quiet) caller->Turn();
  }
  const Duration drain = process_->is_dead ? Duration(0) : Seconds(1);
  runtime_->Shutdown(drain);
  caller = nullptr;
  runtime_ = nullptr;
}

}  // namespace packcast::rtsim
