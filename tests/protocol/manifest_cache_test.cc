#include "protocol/manifest_cache.h"

#include <string>

#include <gtest/gtest.h>

#include "protocol/limits.h"

namespace packcast {
namespace {

Manifest Rows(size_t count, const std::string& prefix = "w") {
  std::vector<Row> rows;
  for (size_t k = 0; k < count; ++k) {
    rows.push_back({.name = prefix + std::to_string(k), .shape = {static_cast<int64_t>(k)}});
  }
  return Manifest::Make(std::move(rows)).value();
}

Status AddAll(ManifestCache* cache, const std::vector<ManifestPart>& parts) {
  for (const ManifestPart& part : parts) PC_RETURN_IF_ERROR(cache->Add(part));
  return OkStatus();
}

TEST(ManifestCache, PutsPartsTogether) {
  for (size_t rows : {0u, 1u, 4096u, 4097u, 10000u}) {
    const Manifest manifest = Rows(rows);
    const std::vector<ManifestPart> parts = ManifestParts(manifest);
    EXPECT_EQ(parts.size(), rows == 0 ? 1 : (rows + 4095) / 4096);
    ManifestCache cache;
    ASSERT_TRUE(AddAll(&cache, parts).ok());
    const auto found = cache.Find(manifest.digest());
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->rows(), manifest.rows());
  }
}

TEST(ManifestCache, AnUnfinishedManifestIsNotThere) {
  const Manifest manifest = Rows(5000);
  ManifestCache cache;
  ASSERT_TRUE(cache.Add(ManifestParts(manifest)[0]).ok());
  EXPECT_EQ(cache.Find(manifest.digest()), nullptr);
  EXPECT_TRUE(cache.Digests().empty());
}

TEST(ManifestCache, AGapDropsWhatCameBefore) {
  const Manifest manifest = Rows(3 * limits::kManifestPartRows);
  const auto parts = ManifestParts(manifest);
  ManifestCache cache;
  ASSERT_TRUE(cache.Add(parts[0]).ok());
  EXPECT_EQ(cache.Add(parts[2]).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(cache.Add(parts[1]).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(AddAll(&cache, parts).ok());  // from the start it works
  EXPECT_NE(cache.Find(manifest.digest()), nullptr);
}

TEST(ManifestCache, PartsOfTwoManifestsDoNotMix) {
  const auto one = ManifestParts(Rows(5000, "a"));
  const auto two = ManifestParts(Rows(5000, "b"));
  ManifestCache cache;
  ASSERT_TRUE(cache.Add(one[0]).ok());
  EXPECT_FALSE(cache.Add(two[1]).ok());
  ASSERT_TRUE(cache.Add(one[0]).ok());
  ASSERT_TRUE(cache.Add(two[0]).ok());  // starts over
  EXPECT_FALSE(cache.Add(one[1]).ok());
  EXPECT_TRUE(cache.Digests().empty());
}

TEST(ManifestCache, MoreRowsThanSaidAreRefused) {
  auto parts = ManifestParts(Rows(3));
  parts[0].total = 2;
  ManifestCache cache;
  EXPECT_EQ(cache.Add(parts[0]).code(), StatusCode::kInvalidArgument);
}

TEST(ManifestCache, RowsMustHaveTheirDigest) {
  auto parts = ManifestParts(Rows(3));
  parts[0].digest = {1, 2};
  ManifestCache cache;
  EXPECT_EQ(cache.Add(parts[0]).code(), StatusCode::kDataLoss);
  EXPECT_EQ(cache.Find({1, 2}), nullptr);
}

TEST(ManifestCache, BadRowsAreRefused) {
  auto parts = ManifestParts(Rows(3));
  parts[0].rows[1] = "no row";
  ManifestCache cache;
  EXPECT_EQ(cache.Add(parts[0]).code(), StatusCode::kInvalidArgument);
  parts = ManifestParts(Rows(3));
  parts[0].rows[1] = parts[0].rows[0];
  EXPECT_NE(cache.Add(parts[0]).message().find("comes twice"), std::string::npos);
  EXPECT_TRUE(AddAll(&cache, ManifestParts(Rows(3))).ok());
}

TEST(ManifestCache, ClaimsAreBounded) {
  ManifestCache cache;
  ManifestPart part{{1, 2}, limits::kManifestRows + 1, 0, {}};
  EXPECT_NE(cache.Add(part).message().find("exceeds a limit"), std::string::npos);
  part.total = limits::kManifestRows;
  part.rows.assign(limits::kManifestPartRows + 1, RowToValue({.name = "a"}));
  EXPECT_NE(cache.Add(part).message().find("exceeds a limit"), std::string::npos);
}

TEST(ManifestCache, KeepsTheLatestFew) {
  ManifestCache cache;
  std::vector<Digest> digests;
  for (size_t rows = 1; rows <= ManifestCache::kManifests + 1; ++rows) {
    ASSERT_TRUE(AddAll(&cache, ManifestParts(Rows(rows))).ok());
    digests.push_back(Rows(rows).digest());
  }
  EXPECT_EQ(cache.Find(digests.front()), nullptr);
  digests.erase(digests.begin());
  EXPECT_EQ(cache.Digests(), digests);
  ASSERT_TRUE(AddAll(&cache, ManifestParts(Rows(2))).ok());  // held already
  EXPECT_EQ(cache.Digests(), digests);
}

}  // namespace
}  // namespace packcast
