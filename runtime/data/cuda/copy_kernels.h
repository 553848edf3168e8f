#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "protocol/digest.h"
#include "runtime/data/copy_piece.h"

namespace packcast {

// What the warps of one block take at a time: one large piece together, or several small ones,
// one each.
struct CopyUnit {
  uint32_t first = 0;  // piece
  uint32_t count = 0;  // 1: shared by all warps of a block; else at most kCopyWarps
};

inline constexpr uint32_t kCopyWarps = 16;  // per block
// From here on a piece is large: smaller ones would not keep all warps of a block busy.
inline constexpr uint32_t kLargePieceBytes = 64u << 10;

// All pointers are the device's, or of pinned memory of the host. `digests`, one per piece and zero
// before, gets each piece's checksum added.
struct CopyWork {
  const CopyPiece* pieces = nullptr;
  const CopyUnit* units = nullptr;
  const PieceLayout* layouts = nullptr;
  Digest* digests = nullptr;
  uint32_t unit_count = 0;
  bool plain = true;  // no piece has a layout or is converted
};

// Does on the GPU what RunPiece does on the CPU, with `blocks` blocks at most: few, so that NCCL
// keeps its multiprocessors. Memory behind the pieces may be of this device or mapped from a peer.
cudaError_t LaunchCopy(const CopyWork& work, uint32_t blocks, cudaStream_t stream);

// Loads the kernels: a first launch while a collective waits for a peer would wait with it.
cudaError_t LoadCopyKernels();

}  // namespace packcast
