#pragma once

#include <cstdint>
#include <memory>

#include "protocol/digest.h"
#include "protocol/ids.h"
#include "protocol/status.h"
#include "runtime/data/collective.h"
#include "runtime/data/shm_arena.h"
#include "runtime/data/shm_segment.h"

namespace packcast {

// What members need to find the root's board, in the rendezvous.
struct ShmBoardName {
  uint64_t pid = 0;
  uint64_t fd = 0;
  uint64_t inode = 0;
  Digest token;
};

// The places of launched operations, written by the root before it says so (the gate), in memory
// that members only read. One board a generation; it also shows at once, when a member joins,
// whether that can read this root's memory at all. docs/protocol.md has the layout.
class ShmBoard {
 public:
  static StatusOr<std::unique_ptr<ShmBoard>> Make(GenerationId generation);
  const ShmBoardName& name() const { return name_; }
  // Launches are counted over all streams of the generation.
  void Post(uint64_t launch, const ShmPlace& place);

 private:
  explicit ShmBoard(std::unique_ptr<ShmSegment> segment) : segment_(std::move(segment)) {}
  const std::unique_ptr<ShmSegment> segment_;
  ShmBoardName name_;
};

// The same, at a member.
class ShmBoardView {
 public:
  // kUnavailable, kPermissionDenied: ShmView::Open. kInvalidArgument: it is another generation's.
  static StatusOr<ShmBoardView> Open(const ShmBoardName& name, GenerationId generation);
  // The place of a launch whose gate is here, for `bytes` bytes. kInternal (a protocol error) when
  // the board has another launch's there, or one that does not fit into its buffer.
  StatusOr<ShmPlace> PlaceOf(uint64_t launch, uint64_t bytes) const;

 private:
  explicit ShmBoardView(std::shared_ptr<const ShmView> view) : view_(std::move(view)) {}
  std::shared_ptr<const ShmView> view_;
};

}  // namespace packcast
