#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include "runtime/data/copy_engine.h"

namespace packcast {
namespace {

class HostCopyEngine final : public CopyEngine {
 public:
  explicit HostCopyEngine(uint32_t pieces_per_turn) : pieces_per_turn_(pieces_per_turn) {}

  Allocator* allocator() override { return HostAllocator(); }
  uint32_t pieces_max() const override { return 256; }
  uint32_t layouts_max() const override { return 16; }
  bool HasRoom() const override { return works_.size() < 8; }
  StatusOr<std::unique_ptr<CopyEngine>> Another() const override {
    return MakeHostCopyEngine(pieces_per_turn_);
  }

  StatusOr<Ticket> Submit(std::span<const CopyPiece> pieces, std::span<const PieceLayout> layouts,
                          void*, bool) override {
    if (!HasRoom()) return ResourceExhausted("too much copy work is under way");
    if (pieces.size() > pieces_max() || layouts.size() > layouts_max()) {
      return InvalidArgument(std::to_string(pieces.size()) + " pieces and " +
                             std::to_string(layouts.size()) + " layouts are too many");
    }
    works_.push_back({++last_, {pieces.begin(), pieces.end()}, {layouts.begin(), layouts.end()}});
    return last_;
  }

  StatusOr<bool> Done(Ticket ticket) override {
    uint32_t turn = pieces_per_turn_;
    for (Work& work : works_) {
      for (; turn > 0 && work.digests.size() < work.pieces.size(); --turn) {
        work.digests.push_back(RunPiece(work.pieces[work.digests.size()], work.layouts));
      }
    }
    const Work& asked = Find(ticket);
    return asked.digests.size() == asked.pieces.size();
  }

  // The host's sources are ready when they say so.
  StatusOr<bool> HasFired(void*) override { return true; }

  std::span<const Digest> digests(Ticket ticket) const override { return Find(ticket).digests; }

  void Forget(Ticket ticket) override {
    std::erase_if(works_, [ticket](const Work& work) { return work.ticket == ticket; });
  }

  Status Drain(Duration) override {
    works_.clear();
    return OkStatus();
  }

 private:
  struct Work {
    Ticket ticket;
    std::vector<CopyPiece> pieces;
    std::vector<PieceLayout> layouts;
    std::vector<Digest> digests;
  };
  const Work& Find(Ticket ticket) const {
    return *std::find_if(works_.begin(), works_.end(),
                         [ticket](const Work& work) { return work.ticket == ticket; });
  }

  const uint32_t pieces_per_turn_;
  std::deque<Work> works_;
  Ticket last_ = 0;
};

}  // namespace

std::unique_ptr<CopyEngine> MakeHostCopyEngine(uint32_t pieces_per_turn) {
  return std::make_unique<HostCopyEngine>(pieces_per_turn);
}

}  // namespace packcast
