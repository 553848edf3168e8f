#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "actors/sources/generated_source.h"
#include "actors/sources/row_cursor.h"
#include "actors/sources/row_memory.h"
#include "actors/weight_source.h"
#include "protocol/digest.h"
#include "protocol/manifest.h"
#include "protocol/status.h"

namespace packcast {

// Stands for a trainer at work: weights that differ at every label. Takes the bytes of another
// source into private memory, and Describe with a new label changes a word of every 4 KiB of every
// tensor. The bytes depend on the first source and the label only, whatever came between; label 0
// has the bytes of the first source. Of a row of n < 8 bytes, labels that are equal modulo 256^n
// have equal bytes. Owns the bytes. Used by one thread at a time, that which drives the trainer.
class ChangingSource : public WeightSource {
 public:
  // One word changes in each block of this many bytes, counted from the row's beginning.
  static constexpr size_t kBlockBytes = 4096;

  // Copies what `source` gives for label 0 and drops it. Errors: those of the source,
  // kResourceExhausted, kUnimplemented for strided or converted tensors.
  static StatusOr<std::unique_ptr<ChangingSource>> Make(std::unique_ptr<WeightSource> source);
  // Takes over the bytes without a copy.
  static StatusOr<std::unique_ptr<ChangingSource>> Make(std::unique_ptr<GeneratedSource> source);

  // Moves the bytes to `request.label`. kFailedPrecondition when they would change under a reader:
  // a cursor has groups that were not released.
  StatusOr<Manifest> Describe(const SyncRequest& request) override;
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo& epoch) override;

  const Manifest& manifest() const { return manifest_; }
  uint64_t label() const { return label_; }
  // Of all rows as they are now; computed on each call.
  Digest ContentDigest() const;

 private:
  ChangingSource(Manifest manifest, RowMemory memory);

  const Manifest manifest_;
  const RowMemory memory_;
  std::vector<const std::byte*> rows_;
  uint64_t label_ = 0;
  const GroupsInUse in_use_ = std::make_shared<std::atomic<int64_t>>(0);
};

}  // namespace packcast
