#pragma once

#include <map>
#include <memory>
#include <vector>

#include "protocol/digest.h"
#include "protocol/manifest.h"
#include "protocol/messages.h"

namespace packcast {

// Manifests by digest, put together from manifest.part messages, so that rows travel once. Keeps
// the latest kManifests whole ones and one under way. Copyable; not thread-safe.
class ManifestCache {
 public:
  static constexpr size_t kManifests = 4;

  // Takes the next run of rows; parts come in order. Errors (the manifest under way is dropped):
  // a gap, a bad row, or rows that do not have the digest they came under.
  Status Add(const ManifestPart& part);
  void Put(std::shared_ptr<const Manifest> manifest);
  // Null when not held whole.
  std::shared_ptr<const Manifest> Find(const Digest& digest) const;
  std::vector<Digest> Digests() const;

 private:
  std::vector<std::shared_ptr<const Manifest>> whole_;  // oldest first
  Digest assembling_;
  std::vector<Row> rows_;
};

// The messages that carry `manifest` (a part holds at most limits::kManifestPartRows rows).
std::vector<ManifestPart> ManifestParts(const Manifest& manifest);

}  // namespace packcast
