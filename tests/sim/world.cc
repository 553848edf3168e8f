#include "tests/sim/world.h"

#include <algorithm>
#include <utility>

namespace packcast::sim {

void Stats::Add(const Stats& other) {
  // In the order of their declaration.
  const auto counts = [](Stats* s) {
    return std::array{&s->events,         &s->messages,     &s->messages_lost,  &s->stale_dropped,
                      &s->committed,      &s->aborted,      &s->retries,        &s->several_flows,
                      &s->partly_reused,  &s->early,        &s->early_given_up, &s->staged_early,
                      &s->staged_crossed, &s->foreign,      &s->zombies,        &s->replayed,
                      &s->rivals,         &s->takeovers,    &s->lazy_drains,    &s->caught_up,
                      &s->not_caught_up,  &s->decided_alone};
  };
  Stats copy = other;
  const auto mine = counts(this);
  const auto theirs = counts(&copy);
  for (size_t k = 0; k < mine.size(); ++k) *mine[k] += *theirs[k];
  for (size_t k = 0; k < decisions_torn.size(); ++k) decisions_torn[k] += other.decisions_torn[k];
  for (size_t k = 0; k < kFaults; ++k) faults[k] += other.faults[k];
  coverage.Add(other.coverage);
}

Process* World::Spawn(const std::string& name, int64_t drift) {
  // Incarnations are unlike each other and not ordered by age, as in a real cluster.
  Process& process = processes_.emplace_back();
  process.name = name;
  process.incarnation = Incarnation(Mix(0x5eed + ++incarnations_));
  if (drift > 0) {
    const Duration origin = random.Between(Duration::zero(), Seconds(1'000'000));
    process.clock = Clock(now_, origin, random.Between(-drift, drift));
  }
  return &process;
}

void World::After(Duration delay, std::function<void()> what) {
  due_.push_back({now_ + delay, ++sequence_, std::move(what)});
  std::push_heap(due_.begin(), due_.end(), Later());
}

void World::After(Process* process, Duration delay, std::function<void()> what) {
  After(delay, [process, what = std::move(what)]() mutable {
    if (!process->alive) return;
    if (process->frozen) {
      process->late.push_back(std::move(what));
    } else {
      what();
    }
  });
}

Duration World::Work(Process* process, Duration low, Duration high) {
  return random.Between(low, high) * process->slowness;
}

void World::Freeze(Process* process, bool asleep) {
  process->frozen = true;
  process->asleep = asleep;
  process->frozen_since = now_;
  trace.Add(now_, process->name, "FREEZE", 0, [] { return std::string(); });
}

void World::Thaw(Process* process) {
  process->frozen = false;
  if (std::exchange(process->asleep, false)) {
    process->clock.StoodStill(now_ - process->frozen_since);
  }
  trace.Add(now_, process->name, "THAW", 0, [] { return std::string(); });
  for (auto& rest : std::exchange(process->unfinished, {})) rest();
  for (auto& what : std::exchange(process->late, {})) {
    After(process, Duration::zero(), std::move(what));
  }
}

bool World::RunUntil(Time until, const std::function<bool()>& done) {
  while (violation_.empty() && !(done && done())) {
    if (due_.empty() || due_.front().at > until) {
      now_ = std::max(now_, until);
      break;
    }
    std::pop_heap(due_.begin(), due_.end(), Later());
    Due next = std::move(due_.back());
    due_.pop_back();
    now_ = next.at;
    ++stats.events;
    next.what();
  }
  return violation_.empty();
}

bool World::MayInject(Fault fault, const std::string& name) {
  const uint32_t number = ++faults_;
  if (only_ != nullptr && std::find(only_->begin(), only_->end(), number) == only_->end()) {
    return false;
  }
  injected_.push_back(number);
  trace.Add(now_, name, "FAULT", number,
            [&] { return "#" + std::to_string(number) + " " + std::string(FaultName(fault)); });
  return true;
}

void World::Violate(const std::string& what) {
  if (!violation_.empty()) return;
  violation_ = what;
  trace.Add(now_, "VIOLATION", "", 0, [&] { return what; });
}

}  // namespace packcast::sim
