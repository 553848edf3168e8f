#include "runtime/data/shm_board.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <new>
#include <string>
#include <utility>

#include "runtime/base/random.h"

namespace packcast {
namespace {

// Twice as many as can be in flight: a launch that is refused has not overwritten a place in use.
constexpr uint64_t kPlaces = 2 * kStepsInFlightMax;
constexpr uint64_t kMagic = 0x316d68732d6b6370;  // "pck-shm1"

// Words in memory that two processes share.
using Word = std::atomic<uint64_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == 8);

struct Entry {
  Word stamp;  // 1 + the launch that it is about; written last
  Word fd;
  Word inode;
  Word bytes;
  Word offset;
};

struct Layout {
  Word magic;
  Word token_hi;
  Word token_lo;
  Word generation;
  std::array<Entry, kPlaces> entries;
};

constexpr uint64_t kBoardBytes = (sizeof(Layout) + 4095) / 4096 * 4096;

}  // namespace

StatusOr<std::unique_ptr<ShmBoard>> ShmBoard::Make(GenerationId generation) {
  PC_ASSIGN_OR_RETURN(std::unique_ptr<ShmSegment> segment, ShmSegment::Make(kBoardBytes));
  std::unique_ptr<ShmBoard> board(new ShmBoard(std::move(segment)));
  board->name_ = {static_cast<uint64_t>(getpid()),
                  board->segment_->fd(),
                  board->segment_->inode(),
                  {RandomBits(), RandomBits()}};
  auto* const layout = new (board->segment_->data()) Layout{};
  layout->token_hi = board->name_.token.hi;
  layout->token_lo = board->name_.token.lo;
  layout->generation = generation.value;
  layout->magic = kMagic;
  return board;
}

void ShmBoard::Post(uint64_t launch, const ShmPlace& place) {
  Entry& entry = reinterpret_cast<Layout*>(segment_->data())->entries[launch % kPlaces];
  entry.fd.store(place.fd, std::memory_order_relaxed);
  entry.inode.store(place.inode, std::memory_order_relaxed);
  entry.bytes.store(place.bytes, std::memory_order_relaxed);
  entry.offset.store(place.offset, std::memory_order_relaxed);
  entry.stamp.store(launch + 1, std::memory_order_release);
}

StatusOr<ShmBoardView> ShmBoardView::Open(const ShmBoardName& name, GenerationId generation) {
  PC_ASSIGN_OR_RETURN(auto view, ShmView::Open(name.pid, name.fd, name.inode, kBoardBytes));
  const auto* const layout = reinterpret_cast<const Layout*>(view->data());
  if (layout->magic != kMagic || layout->generation != generation.value ||
      layout->token_hi != name.token.hi || layout->token_lo != name.token.lo) {
    return InvalidArgument("the rendezvous of kind \"shm\" is not that of generation " +
                           std::to_string(generation.value) + " of this root");
  }
  return ShmBoardView(std::move(view));
}

StatusOr<ShmPlace> ShmBoardView::PlaceOf(uint64_t launch, uint64_t bytes) const {
  const Entry& entry = reinterpret_cast<const Layout*>(view_->data())->entries[launch % kPlaces];
  const uint64_t stamp = entry.stamp.load(std::memory_order_acquire);
  // Read once: what is checked is what is used.
  const ShmPlace place{
      entry.fd.load(std::memory_order_relaxed), entry.inode.load(std::memory_order_relaxed),
      entry.bytes.load(std::memory_order_relaxed), entry.offset.load(std::memory_order_relaxed)};
  if (stamp != launch + 1) {
    return Internal("the root's board has launch " + std::to_string(stamp) + " instead of " +
                    std::to_string(launch + 1));
  }
  if (place.offset > place.bytes || bytes > place.bytes - place.offset) {
    return Internal("the root's board places " + std::to_string(bytes) + " bytes at byte " +
                    std::to_string(place.offset) + " of a buffer of " +
                    std::to_string(place.bytes));
  }
  return place;
}

}  // namespace packcast
