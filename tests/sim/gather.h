#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "protocol/ids.h"
#include "protocol/messages.h"
#include "tests/sim/truth.h"
#include "tests/sim/world.h"

namespace packcast::sim {

// The collectives that the ranks of a lazy trainer run among themselves: one for each row of a
// walk over the source, in which each rank waits until all are there. A rank that waits for one
// that will not come is a violation, unless nobody could have told it: its sibling's process is
// gone, or another life took the place of one of them, or sessions broke just when the coordinator
// said where to begin or where to stop. Then the program ends all ranks, as a collective's own
// watchdog does.
class Gather {
 public:
  static constexpr size_t kAll = std::numeric_limits<size_t>::max();

  // `broken`: the processes of all ranks are to be ended, or an earlier life of one.
  // `time`: that it takes at most once all are there.
  Gather(World* world, const Truth* truth, uint32_t ranks, Duration time,
         std::function<void(Process*)> broken)
      : world_(world), truth_(truth), time_(time), broken_(std::move(broken)), ranks_(ranks) {}

  // A life of this rank begins; what an earlier one waits for never comes, unless this one ends
  // first: a new coordinator does not know which began later.
  void Enroll(uint32_t rank, Process* process);
  void OnKilled() { CheckAlone(); }
  // It has waited for too long.
  void GiveUp(Process* process) { broken_(process); }
  // The processes are about to be ended; until they were.
  bool is_broken() const { return is_broken_; }
  void OnEnded() { is_broken_ = false; }
  // A rank enters row `row` of a walk; `gathered` is called on its process once all have.
  void Enter(Process* process, uint32_t rank, const EpochKey& key, size_t row,
             std::function<void()> gathered);
  // A rank will enter so many rows of that walk in all, if it ever began it.
  void SetEnd(const Process* process, uint32_t rank, const EpochKey& key, size_t rows);

 private:
  struct Rank {
    Process* process = nullptr;
    EpochKey key;        // of its latest walk, or attempt
    uint64_t turn = 0;   // when that was begun: counts
    size_t entered = 0;  // rows
    size_t end = kAll;   // how many it will enter
    std::function<void()> waits;
  };

  Rank* RankOf(const Process* process, uint32_t rank);
  void Turn(Rank* rank, const EpochKey& key);
  void CheckAlone();
  // Whether this life takes part in the walk of `waiting`, and still lives.
  bool TakesPart(const Rank& waiting, const Rank& other) const;
  bool WillCome(const Rank& waiting, const Rank& other) const;
  bool NobodyCouldKnow(const Rank& waiting) const;
  void Break();

  World* const world_;
  const Truth* const truth_;
  const Duration time_;
  const std::function<void(Process*)> broken_;
  std::vector<Rank> ranks_;
  uint64_t turns_ = 0;
  bool is_broken_ = false;
};

}  // namespace packcast::sim
