#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "protocol/contract.h"
#include "protocol/ids.h"
#include "protocol/manifest.h"
#include "protocol/plan.h"
#include "protocol/status.h"

namespace packcast {

// A CUDA event of the caller's (cudaEvent_t), or null on the host.
struct EventRef {
  void* handle = nullptr;
};

// What a trainer asks to have synced: the caller's own step number, and what kind of change it is.
struct SyncRequest {
  uint64_t label = 0;
  SyncKind kind = SyncKind::kFull;
};

// The epoch and attempt that a callback works for.
struct EpochInfo {
  Version version;
  Attempt attempt;
  uint64_t label = 0;
  InstallMode install = InstallMode::kStaged;
  uint32_t bank = 0;  // which of the binding's banks is written (weight_sink.h)
};

// One tensor's bytes where the trainer has them. `dtype` may differ from the manifest's row when
// the pack converts (F32 to BF16 or F16).
struct SourceTensor {
  uint32_t row = 0;  // of the manifest
  Dtype dtype = Dtype::kU8;
  const std::byte* data = nullptr;
  std::vector<int64_t> strides;  // in elements; empty: contiguous
  // Of a part of a row (WeightSink::Load): where it begins in the row and how long it is; zero
  // bytes: all of the row.
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// Tensors that become available and are released together. Groups have numbers 0, 1, 2 ... in the
// manifest's order, the same on every trainer rank.
struct TensorGroup {
  uint64_t id = 0;
  std::vector<SourceTensor> tensors;
  // The bytes are valid once this fired; null: now. Recorded on whatever stream makes them: packs
  // wait for it on the device, the caller for nothing.
  EventRef ready;
};

// Walks a source's groups in order, for one attempt. All calls come from the thread that drives
// the trainer (Trainer::Sync), so a lazy source may run its own collectives (an FSDP gather) in
// them; every trainer rank makes the same calls with the same group numbers.
class Cursor {
 public:
  virtual ~Cursor() = default;
  // The next group, or an empty one (no tensors) at the end. Its bytes stay valid and constant
  // until Release. Rows come in the manifest's order; those that this rank does not hold
  // (WeightSource::Held) have no data.
  virtual StatusOr<TensorGroup> Next() = 0;
  // How many bytes of groups may be entered and not released, about. A source whose tensors lie in
  // memory anyway says kNoLimit: to wait for releases would only slow it down.
  static constexpr uint64_t kNoLimit = UINT64_MAX;
  virtual uint64_t bytes_ahead() const { return uint64_t{256} << 20; }
  // The group's bytes were read, and may change again: on any stream, from now on.
  virtual void Release(uint64_t group) = 0;
  // The attempt is given up: go on to the end of `group` (already entered on some rank), so that
  // the ranks' own collectives stay matched, and no further. Groups entered here are not sent.
  // Where nobody can say which group that is, ranks call Next to the end instead.
  virtual Status StopAt(uint64_t group) = 0;
};

// Where a trainer rank's weights come from; implemented by the embedding program on every trainer
// rank. Bytes stay constant from Sync() until its `source_free` resolves.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // The rows that this sync sends, in order. Equal on every trainer rank.
  virtual StatusOr<Manifest> Describe(const SyncRequest& request) = 0;
  // The regions of the manifest described last that this rank holds and can send; nothing: all of
  // it. Whole rows only, in any order. A row that several ranks hold is sent by the first of them.
  // A rank's cursor gives all rows all the same, those that it does not hold without data.
  virtual std::optional<std::vector<Region>> Held() { return std::nullopt; }
  virtual StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo& epoch) = 0;
};

}  // namespace packcast
