#include "tests/sim/user.h"

namespace packcast::sim {
namespace {

constexpr Duration kGrace = Seconds(60);  // of a cancelled call: the longest abort

}  // namespace

void User::Begin() {
  calls_left_ = scenario_.calls;
  model_ = random_.Below(kModels);
  world_->After(Milliseconds(100), [this] { NextCall(); });
}

void User::NextCall() {
  if (calls_left_ == 0) return;
  --calls_left_;
  // Now and then a failed step is tried again under its label.
  const bool again = last_label_ > 0 && random_.Chance(0.1);
  CallAll(again ? last_label_ : ++last_label_, random_.Chance(scenario_.supersede));
  if (on_call_) on_call_();
  if (random_.Chance(scenario_.control)) ControlSomething();
  const Duration pause = random_.Chance(scenario_.second_call)
                             ? Milliseconds(1)
                             : random_.Between(scenario_.pause_low, scenario_.pause_high);
  world_->After(pause, [this] { NextCall(); });
}

void User::OnCatchUp() {
  if (calls_left_ == 0 || !random_.Chance(0.4)) return;
  world_->After(random_.Between(Duration::zero(), Milliseconds(15)),
                [this] { CallAll(++last_label_, false); });
}

void User::CallAll(uint64_t label, bool supersede) {
  if (random_.Chance(0.05)) model_ = random_.Below(kModels);
  const bool cancels = random_.Chance(scenario_.cancel);
  for (MemberShell* shell : cluster_->AllTrainers()) {
    const Duration skew = random_.Between(Duration::zero(), Milliseconds(3));
    world_->After(shell->process(), skew, [this, shell, label, model = model_, supersede] {
      CallOne(shell, label, model, supersede);
    });
    const Duration patience =
        cancels ? random_.Between(Milliseconds(4), Milliseconds(100)) : scenario_.call_deadline;
    world_->Timer(shell->process(), patience, [this, shell, label] {
      if (open_.contains({shell, label})) shell->Cancel(label);
    });
  }
}

void User::CallOne(MemberShell* shell, uint64_t label, size_t model, bool supersede) {
  if (open_.contains({shell, label}) || shell->Holds(label)) return;
  open_[{shell, label}] = {world_->now(), world_->now() + scenario_.call_deadline};
  shell->Sync(label, model, supersede);
}

void User::OnFinished(MemberShell* shell, uint64_t label, const Status& status) {
  const std::string call = "sync(" + std::to_string(label) + ") of " + shell->process()->name;
  const auto open = open_.extract({shell, label});
  if (open.empty()) return world_->Violate("S8: " + call + " is resolved twice");
  if (status.ok() && !cluster_->DecidedSince(label, open.mapped().began)) {
    world_->Violate("S8: " + call + " is said to be committed, and nothing was");
  }
  if (label != watched_label_) return;
  ++results_;
  if (status.ok()) ++results_ok_;
  if (!status.ok()) last_error_ = status.ToString();
}

void User::OnWanted(MemberShell* shell, uint64_t label) {
  last_label_ = std::max(last_label_, label);
  world_->After(shell->process(), Milliseconds(1),
                [this, shell, label] { CallOne(shell, label, model_, false); });
  world_->Timer(shell->process(), scenario_.call_deadline, [this, shell, label] {
    if (open_.contains({shell, label})) shell->Cancel(label);
  });
}

void User::SyncNow() {
  results_ = results_ok_ = 0;
  watched_label_ = ++last_label_;
  const auto trainers = cluster_->Trainers();
  results_wanted_ = trainers.size();
  for (MemberShell* shell : trainers) CallOne(shell, watched_label_, model_, false);
}

std::string User::Open() const {
  for (const auto& [call, times] : open_) {
    const auto& [shell, label] = call;
    if (!shell->process()->alive || shell->process()->frozen) continue;
    if (world_->now() < times.deadline + kGrace) continue;
    return "sync(" + std::to_string(label) + ") of " + shell->process()->name +
           " is open past its deadline and grace";
  }
  return "";
}

void User::ControlSomething() {
  CoordinatorShell* coordinator = cluster_->coordinator();
  if (coordinator == nullptr || coordinator->process()->frozen) return;
  const std::string replica =
      "replica-" + std::to_string(random_.Below(scenario_.replica_sizes.size()));
  switch (random_.Below(7)) {
    case 0:
      return coordinator->Control("limits",
                                  ValueMap{{"install", random_.Chance(0.5) ? "staged" : "in-place"},
                                           {"buffer_bytes", random_.Between(1, 8) * 256}});
    case 1: return coordinator->Control("drain", ValueMap{{"replica", replica}});
    case 2: return coordinator->Control("readmit", ValueMap{{"replica", replica}});
    case 3: return ControlSync(coordinator);
    case 4: return coordinator->Control("cancel", ValueMap{});
    case 5: return coordinator->Control("members", ValueMap{});
    case 6:
      if (random_.Chance(0.3)) coordinator->Control("shutdown", ValueMap{});
      return;
  }
}

// Scripts come alone, or in a crowd that wants the same, or each something else.
void User::ControlSync(CoordinatorShell* coordinator) {
  const uint64_t first = last_label_ + random_.Below(3);
  const uint64_t scripts = random_.Chance(0.3) ? random_.Between(2, 6) : 1;
  const uint64_t labels = random_.Between(1, 3);
  for (uint64_t k = 0; k < scripts; ++k) {
    const bool named = scripts > 1;
    coordinator->Control("sync", named ? ValueMap{{"label", first + k % labels}} : ValueMap{});
  }
}

void User::ReadmitAll() {
  for (size_t k = 0; k < scenario_.replica_sizes.size(); ++k) {
    cluster_->coordinator()->Control("readmit",
                                     ValueMap{{"replica", "replica-" + std::to_string(k)}});
  }
}

}  // namespace packcast::sim
