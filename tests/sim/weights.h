#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "protocol/contract.h"
#include "protocol/digest.h"
#include "protocol/manifest.h"
#include "protocol/plan.h"

// The simulated model: a few small tensors, in cells of 256 bytes. A cell holds one word that says
// whose content it is and where it belongs, so that torn, mixed, stale or misplaced bytes show.
namespace packcast::sim {

using Words = std::vector<uint64_t>;

// A change of the trainer's weights gets a token; cell `cell` then holds WordOf(token, cell).
constexpr uint64_t WordOf(uint64_t token, uint64_t cell) { return (token << 16) | cell; }
constexpr uint64_t TokenOf(uint64_t word) { return word >> 16; }

inline constexpr uint64_t kCellBytes = 256;

// A flow's plan in cells.
struct CellPlan {
  Digest digest;
  std::vector<std::vector<uint32_t>> steps;  // the cells of each
};

// One of kModels manifests; the same object each time.
inline constexpr size_t kModels = 4;
std::shared_ptr<const Manifest> ModelManifest(size_t model);
uint32_t ModelCells(const Manifest& manifest);

uint32_t RowOf(const Manifest& manifest, uint32_t cell);

// The real plan of a flow of `contract` for one of the manifests above. Cached by the thread: it
// is pure.
const CellPlan& PlanOf(const Manifest& manifest, const Contract& contract, const Flow& flow);
// Of all flows, as docs/protocol.md defines "plan_digest".
Digest PlansDigestOf(const Manifest& manifest, const Contract& contract);

// Commutative over words, as content digests are: parts add up with Combine.
Digest DigestOf(uint64_t word);

}  // namespace packcast::sim
