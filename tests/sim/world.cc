#include "tests/sim/world.h"

#include <algorithm>
#include <utility>

namespace packcast::sim {

Process* World::Spawn(const std::string& name) {
  // Incarnations are unlike each other and not ordered by age, as in a real cluster.
  processes_.push_back({name, Incarnation(Mix(0x5eed + ++incarnations_))});
  return &processes_.back();
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

void World::Freeze(Process* process) {
  process->frozen = true;
  process->frozen_since = now_;
  trace.Add(now_, process->name, "FREEZE", 0, [] { return std::string(); });
}

void World::Thaw(Process* process) {
  process->frozen = false;
  trace.Add(now_, process->name, "THAW", 0, [] { return std::string(); });
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

void World::Violate(const std::string& what) {
  if (!violation_.empty()) return;
  violation_ = what;
  trace.Add(now_, "VIOLATION", "", 0, [&] { return what; });
}

}  // namespace packcast::sim
