#include "protocol/digest.h"

#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace packcast {
namespace {

std::vector<std::byte> Random(size_t count, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng());
  return bytes;
}

Digest Whole(uint64_t row, std::span<const std::byte> bytes) {
  ContentHash hash;
  hash.Add(row, 0, bytes);
  return hash.digest();
}

TEST(Digest, HexGoesThereAndBack) {
  const Digest digest{0x0123456789abcdefull, 0xfedcba9876543210ull};
  EXPECT_EQ(ToHex(digest), "0123456789abcdeffedcba9876543210");
  EXPECT_EQ(*DigestFromHex(ToHex(digest)), digest);
  EXPECT_FALSE(DigestFromHex("0123").ok());
  EXPECT_FALSE(DigestFromHex(std::string(32, 'g')).ok());
  EXPECT_FALSE(DigestFromHex(std::string(32, 'A')).ok());
}

TEST(ContentHash, PartsInAnyOrderAddUpToTheWhole) {
  const auto bytes = Random(1003, 1);
  const std::span<const std::byte> all(bytes);
  for (size_t cut = 0; cut <= bytes.size(); cut += 8) {
    ContentHash parts;
    parts.Add(5, cut, all.subspan(cut));
    parts.Add(5, 0, all.first(cut));
    EXPECT_EQ(parts.digest(), Whole(5, all)) << cut;
  }
  ContentHash merged;
  merged.Merge(Whole(5, all));
  merged.Merge(Whole(6, all));
  EXPECT_EQ(merged.digest(), Combine(Whole(6, all), Whole(5, all)));
}

TEST(ContentHash, EveryBitRowAndPlaceCounts) {
  auto bytes = Random(77, 2);
  const Digest digest = Whole(1, bytes);
  EXPECT_NE(Whole(2, bytes), digest);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    const auto mask = static_cast<std::byte>(1 << bit % 8);
    bytes[bit / 8] ^= mask;
    EXPECT_NE(Whole(1, bytes), digest) << "bit " << bit;
    bytes[bit / 8] ^= mask;
  }
  ContentHash moved;
  moved.Add(1, 8, bytes);
  EXPECT_NE(moved.digest(), digest);
}

TEST(ContentHash, SwappedBlocksDiffer) {
  const auto bytes = Random(64, 3);
  auto swapped = bytes;
  for (size_t k = 0; k < 8; ++k) std::swap(swapped[k], swapped[8 + k]);
  EXPECT_NE(Whole(0, swapped), Whole(0, bytes));
}

TEST(ContentHash, NothingIsZero) { EXPECT_TRUE(Whole(3, {}).IsZero()); }

}  // namespace
}  // namespace packcast
