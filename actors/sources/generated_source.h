#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "actors/sources/row_cursor.h"
#include "actors/sources/row_memory.h"
#include "actors/weight_source.h"
#include "protocol/manifest.h"
#include "protocol/status.h"

namespace packcast {

// A list of tensors to make up, as a JSON file says it: {"model": ..., "bytes": ..., "tensors":
// [[name, dtype, shape], ...]}, where only "tensors" is needed, or a bare list of rows.
struct ShapesFile {
  std::string model;
  std::vector<Row> rows;
  uint64_t bytes = 0;

  // Errors (kInvalidArgument) name the file, the row and both values: bad JSON, keys that come
  // twice, unknown dtype, bad shape, duplicate names, "bytes" unlike the rows' sum; and those of
  // MappedFile::Open.
  static StatusOr<ShapesFile> Load(const std::string& path);
  // The same from text; `path` is for messages only.
  static StatusOr<ShapesFile> Parse(const std::string& text, const std::string& path);
};

// Weights made up from a list of rows: seeded pseudo-random bytes, the same for the same seed, row
// number and offset on every machine. Bytes never change. Owns them. Used by the thread that drives
// the trainer; the const methods by any.
class GeneratedSource : public WeightSource {
 public:
  // `group` of the rows is set: one tensor a group. Errors: those of Manifest::Make, and
  // kResourceExhausted when the bytes do not fit into memory.
  static StatusOr<std::unique_ptr<GeneratedSource>> Make(std::vector<Row> rows, uint64_t seed);

  StatusOr<Manifest> Describe(const SyncRequest& request) override;
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo& epoch) override;

  const Manifest& manifest() const { return manifest_; }
  // Gives the bytes away, for one who wants to change them without a copy. The source has no use
  // afterwards.
  RowMemory TakeMemory() && { return std::move(memory_); }

 private:
  GeneratedSource(Manifest manifest, RowMemory memory);

  const Manifest manifest_;
  RowMemory memory_;
  std::vector<const std::byte*> rows_;
  const GroupsInUse in_use_ = std::make_shared<std::atomic<int64_t>>(0);
};

}  // namespace packcast
