#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "protocol/plan.h"
#include "protocol/status.h"
#include "runtime/data/collective.h"
#include "runtime/data/copy_engine.h"

namespace packcast::internal {

// How long an abort waits for kernels of ours that are under way.
inline constexpr Duration kDrainTimeout = Seconds(5);

// The copy work of one step: pieces that wait for a Submit, tickets of what was submitted, and the
// seal that comes of it. Owned by producer or consumer; one thread.
class StepWork {
 public:
  // About so many pieces will be added: memory for them at once, not piece by piece.
  void Expect(size_t pieces, const CopyEngine& engine) {
    waiting_.reserve(std::min<size_t>(pieces, engine.pieces_max()));
  }
  // At most CopyEngine::pieces_max pieces wait; see IsFull.
  void Add(const CopyPiece& piece) { waiting_.push_back(piece); }
  // The place of a layout for the next pieces.
  uint16_t AddLayout(const PieceLayout& layout) {
    layouts_.push_back(layout);
    return static_cast<uint16_t>(layouts_.size() - 1);
  }
  // Whether one more piece and layout can wait.
  bool IsFull(const CopyEngine& engine) const {
    return waiting_.size() >= engine.pieces_max() || layouts_.size() >= engine.layouts_max();
  }
  bool has_waiting() const { return !waiting_.empty(); }
  // Gives the pieces that wait, all of a packed step's from its first on, their places in `buffer`.
  void Place(const Plan& plan, const Step& step, std::byte* buffer) {
    uint32_t region = step.region_begin;
    uint64_t done = 0;  // of the region
    for (CopyPiece& piece : waiting_) {
      if (done == plan.regions[region].bytes) {
        ++region;
        done = 0;
      }
      piece.to = buffer + plan.regions[region].buffer_offset + done;
      done += piece.bytes;
    }
  }

  // Hands everything that waits to the engine; `ready` and `alone` as in Submit. False when that
  // has no room.
  StatusOr<bool> Flush(CopyEngine* engine, void* ready, bool alone) {
    if (waiting_.empty()) return true;
    if (!engine->HasRoom()) return false;
    PC_ASSIGN_OR_RETURN(const CopyEngine::Ticket ticket,
                        engine->Submit(waiting_, layouts_, ready, alone));
    Submitted submitted{ticket, {}};
    for (uint32_t k = 0; k < waiting_.size(); ++k) {
      if (waiting_[k].hashed == 0) submitted.unhashed.push_back(k);
    }
    submitted_.push_back(std::move(submitted));
    waiting_.clear();
    layouts_.clear();
    return true;
  }

  // Takes the checksums of what is done. True when nothing waits or runs any more.
  StatusOr<bool> Advance(CopyEngine* engine) {
    while (!submitted_.empty()) {
      const Submitted& first = submitted_.front();
      PC_ASSIGN_OR_RETURN(const bool done, engine->Done(first.ticket));
      if (!done) return false;
      const auto digests = engine->digests(first.ticket);
      seal_.pieces.reserve(seal_.pieces.size() + digests.size());
      auto unhashed = first.unhashed.begin();
      for (uint32_t k = 0; k < digests.size(); ++k) {
        if (unhashed != first.unhashed.end() && *unhashed == k) {
          ++unhashed;
          continue;
        }
        seal_.digest = Combine(seal_.digest, digests[k]);
        seal_.pieces.push_back(digests[k].lo);
      }
      engine->Forget(first.ticket);
      submitted_.pop_front();
    }
    return waiting_.empty();
  }
  bool is_running() const { return !submitted_.empty(); }
  const StepSeal& seal() const { return seal_; }

 private:
  struct Submitted {
    CopyEngine::Ticket ticket;
    std::vector<uint32_t> unhashed;  // pieces, ascending; few
  };
  std::vector<CopyPiece> waiting_;
  std::vector<PieceLayout> layouts_;
  std::deque<Submitted> submitted_;
  StepSeal seal_;
};

// Calls visit(offset in row, bytes) for the pieces of a region, in order: both ends of a flow cut
// alike.
template <class Visit>
void ForEachHashPiece(const Region& region, Visit visit) {
  for (uint64_t done = 0; done < region.bytes; done += kPieceBytes) {
    visit(region.offset + done,
          static_cast<uint32_t>(std::min<uint64_t>(kPieceBytes, region.bytes - done)));
  }
}

}  // namespace packcast::internal
