#include "tests/sim/gather.h"

#include <algorithm>
#include <utility>

#include "tests/sim/describe.h"

namespace packcast::sim {

void Gather::Enroll(uint32_t rank, Process* process) {
  const Rank before = std::exchange(ranks_[rank], {});
  if (before.waits != nullptr) broken_(before.process);
  const bool others_wait = std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& other) {
    return other.waits != nullptr && other.process->alive;
  });
  if (others_wait) Break();  // for the life before this one
  ranks_[rank].process = process;
}

// Null for a life that was succeeded.
Gather::Rank* Gather::RankOf(const Process* process, uint32_t rank) {
  return ranks_[rank].process == process ? &ranks_[rank] : nullptr;
}

void Gather::Turn(Rank* rank, const EpochKey& key) {
  if (rank->key == key) return;
  rank->key = key;
  rank->turn = ++turns_;
  rank->entered = 0;
  rank->end = kAll;
}

void Gather::Enter(Process* process, uint32_t index, const EpochKey& key, size_t row,
                   std::function<void()> gathered) {
  if (!ranks_[index].process->alive) ranks_[index] = {.process = process};
  Rank* rank = RankOf(process, index);
  if (rank == nullptr) return broken_(process);
  Turn(rank, key);
  rank->entered = row + 1;
  rank->waits = std::move(gathered);
  const bool all = std::all_of(ranks_.begin(), ranks_.end(), [&](const Rank& other) {
    return other.waits != nullptr && other.key == key && other.entered == row + 1;
  });
  if (!all) return CheckAlone();
  for (Rank& each : ranks_) {
    world_->After(each.process, world_->random.Between(Microseconds(10), time_),
                  std::exchange(each.waits, nullptr));
  }
}

void Gather::SetEnd(const Process* process, uint32_t index, const EpochKey& key, size_t rows) {
  Rank* rank = RankOf(process, index);
  if (rank == nullptr) return;
  Turn(rank, key);
  rank->end = rows;
  CheckAlone();
}

bool Gather::TakesPart(const Rank& waiting, const Rank& other) const {
  if (other.process == nullptr || !other.process->alive) return false;
  const auto walkers = truth_->walkers.find(waiting.key);
  return walkers != truth_->walkers.end() &&
         walkers->second.contains({other.process->name, other.process->incarnation});
}

// Whether `other` enters the row that `waiting` waits in, sooner or later, as far as is known.
bool Gather::WillCome(const Rank& waiting, const Rank& other) const {
  if (!TakesPart(waiting, other)) return false;
  if (other.key == waiting.key) return other.end >= waiting.entered;
  return other.turn < waiting.turn;  // else it has gone on to something else
}

bool Gather::NobodyCouldKnow(const Rank& waiting) const {
  for (const Rank& other : ranks_) {
    if (!TakesPart(waiting, other)) return true;
    if (truth_->superseded.contains({other.process->name, other.process->incarnation})) return true;
  }
  if (!truth_->abandoned.contains(waiting.key)) return false;
  const bool some_never_began = std::any_of(ranks_.begin(), ranks_.end(), [&](const Rank& other) {
    return other.key == waiting.key ? other.entered == 0 : other.turn > waiting.turn;
  });
  return some_never_began || truth_->drained_unaware.contains(waiting.key);
}

void Gather::CheckAlone() {
  if (is_broken_) return;
  for (const Rank& waiting : ranks_) {
    if (waiting.waits == nullptr || !waiting.process->alive) continue;
    for (const Rank& other : ranks_) {
      if (&other == &waiting || WillCome(waiting, other)) continue;
      if (NobodyCouldKnow(waiting)) return Break();
      const std::string name = other.process->name;
      return world_->Violate("lazy: " + waiting.process->name + " gathers row " +
                             std::to_string(waiting.entered - 1) + " of " + KeyText(waiting.key) +
                             ", and " + name + " does not: it is in " + KeyText(other.key) +
                             " after " + std::to_string(other.entered) + " rows");
    }
  }
}

void Gather::Break() {
  if (std::exchange(is_broken_, true)) return;
  world_->trace.Add(world_->now(), "trainer", "BROKEN", 0, [] { return std::string(); });
  broken_(nullptr);
}

}  // namespace packcast::sim
