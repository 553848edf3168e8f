#include "protocol/manifest_cache.h"

#include <algorithm>

#include "protocol/limits.h"

namespace packcast {

Status ManifestCache::Add(const ManifestPart& part) {
  if (part.total > limits::kManifestRows || part.rows.size() > limits::kManifestPartRows) {
    return InvalidArgument("manifest part exceeds a limit: " + std::to_string(part.total) +
                           " rows in all, " + std::to_string(part.rows.size()) + " here");
  }
  if (part.first == 0) {
    rows_.clear();
    assembling_ = part.digest;
  }
  if (part.digest != assembling_ || part.first != rows_.size() ||
      part.first + part.rows.size() > part.total) {
    const size_t expected = rows_.size();
    rows_.clear();
    return InvalidArgument("manifest part out of order: expected row " + std::to_string(expected) +
                           ", got " + std::to_string(part.first));
  }
  for (const Value& value : part.rows) {
    StatusOr<Row> row = RowFromValue(value);
    if (!row.ok()) {
      rows_.clear();
      return row.status();
    }
    rows_.push_back(std::move(row).value());
  }
  if (rows_.size() < part.total) return OkStatus();
  PC_ASSIGN_OR_RETURN(Manifest manifest, Manifest::Make(std::move(rows_)));
  rows_.clear();
  if (manifest.digest() != part.digest) {
    return DataLoss("manifest rows have digest " + ToHex(manifest.digest()) + " but came under " +
                    ToHex(part.digest));
  }
  Put(std::make_shared<const Manifest>(std::move(manifest)));
  return OkStatus();
}

void ManifestCache::Put(std::shared_ptr<const Manifest> manifest) {
  if (Find(manifest->digest()) != nullptr) return;
  if (whole_.size() >= kManifests) whole_.erase(whole_.begin());
  whole_.push_back(std::move(manifest));
}

std::shared_ptr<const Manifest> ManifestCache::Find(const Digest& digest) const {
  for (const auto& manifest : whole_) {
    if (manifest->digest() == digest) return manifest;
  }
  return nullptr;
}

std::vector<Digest> ManifestCache::Digests() const {
  std::vector<Digest> out;
  for (const auto& manifest : whole_) out.push_back(manifest->digest());
  return out;
}

std::vector<ManifestPart> ManifestParts(const Manifest& manifest) {
  std::vector<ManifestPart> parts;
  size_t row = 0;
  do {
    ManifestPart part{manifest.digest(), manifest.size(), row, {}};
    for (; row < manifest.size() && part.rows.size() < limits::kManifestPartRows; ++row) {
      part.rows.push_back(RowToValue(manifest.rows()[row]));
    }
    parts.push_back(std::move(part));
  } while (row < manifest.size());
  return parts;
}

}  // namespace packcast
