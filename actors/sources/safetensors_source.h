#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "actors/sources/row_cursor.h"
#include "actors/sources/safetensors.h"
#include "actors/weight_source.h"
#include "protocol/manifest.h"
#include "protocol/status.h"

namespace packcast {

// Weights of a checkpoint in one or several safetensors files, served from the mapped files
// without a copy. Bytes never change. Owns the mappings. Used by the thread that drives the
// trainer; the const methods by any.
class SafetensorsSource : public WeightSource {
 public:
  // Rows come in the order of `paths`, within a file in the order of its data. Errors: those of
  // SafetensorsFile::Open and Manifest::Make, and a tensor that is in two files (names both).
  static StatusOr<std::unique_ptr<SafetensorsSource>> Make(const std::vector<std::string>& paths);

  StatusOr<Manifest> Describe(const SyncRequest& request) override;
  StatusOr<std::unique_ptr<Cursor>> Open(const EpochInfo& epoch) override;

  const Manifest& manifest() const { return manifest_; }
  const std::vector<SafetensorsFile>& files() const { return files_; }

 private:
  SafetensorsSource(std::vector<SafetensorsFile> files, Manifest manifest,
                    std::vector<const std::byte*> rows);

  const std::vector<SafetensorsFile> files_;
  const Manifest manifest_;
  const std::vector<const std::byte*> rows_;
  const GroupsInUse in_use_ = std::make_shared<std::atomic<int64_t>>(0);
};

}  // namespace packcast
