#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "protocol/digest.h"
#include "protocol/status.h"
#include "protocol/time.h"
#include "runtime/data/buffer_ring.h"
#include "runtime/data/copy_piece.h"

namespace packcast {

// Copies and hashes pieces beside the thread that asks for it: on a GPU one kernel launch per
// Submit, on the host a twin for tests. The work of one engine is done in the order of Submit.
// One thread at a time.
class CopyEngine {
 public:
  // Names one Submit. Never 0, never used again.
  using Ticket = uint64_t;

  virtual ~CopyEngine() = default;

  // Where the buffers that this engine reads and writes come from.
  virtual Allocator* allocator() = 0;
  // Pieces and layouts of one Submit, at most.
  virtual uint32_t pieces_max() const = 0;
  virtual uint32_t layouts_max() const = 0;

  // Whether a Submit would be taken. False while too many are not forgotten.
  virtual bool HasRoom() const = 0;
  // Starts the work once `ready` (a cudaEvent_t; null: now) has fired. `alone` says that no
  // broadcast runs beside it: it may take all of the device. The memory behind the pieces stays
  // until Done. Errors: kInvalidArgument for too many pieces, kResourceExhausted
  // without room, kInternal with the device's words; the last is sticky.
  virtual StatusOr<Ticket> Submit(std::span<const CopyPiece> pieces,
                                  std::span<const PieceLayout> layouts, void* ready,
                                  bool alone = false) = 0;
  virtual StatusOr<bool> Done(Ticket ticket) = 0;
  // Whether an event (cudaEvent_t) of a source has fired.
  virtual StatusOr<bool> HasFired(void* event) = 0;
  // Once done and until Forget: the checksum of each piece, zero where it is not hashed.
  virtual std::span<const Digest> digests(Ticket ticket) const = 0;
  virtual void Forget(Ticket ticket) = 0;

  // One more of the same kind, for another thread: it has streams and tables of its own.
  // kUnimplemented where there is only one; else as what made this one.
  virtual StatusOr<std::unique_ptr<CopyEngine>> Another() const {
    return Unimplemented("this copy engine is the only one of its kind");
  }

  // Waits until nothing is under way, and forgets everything: then no memory is touched any more.
  // kDeadlineExceeded otherwise.
  virtual Status Drain(Duration timeout) = 0;
};

// Does the work on the CPU, in Done, at most `pieces_per_turn` pieces at a call, so that tests see
// work that is under way.
std::unique_ptr<CopyEngine> MakeHostCopyEngine(uint32_t pieces_per_turn = 64);

}  // namespace packcast
