#include "protocol/digest.h"

#include <xxhash.h>

#include <bit>
#include <cstring>

namespace packcast {

static_assert(std::endian::native == std::endian::little, "words are read as little-endian");

std::string ToHex(const Digest& digest) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out(32, '0');
  for (int k = 0; k < 16; ++k) {
    out[15 - k] = kDigits[(digest.hi >> (4 * k)) & 15];
    out[31 - k] = kDigits[(digest.lo >> (4 * k)) & 15];
  }
  return out;
}

StatusOr<Digest> DigestFromHex(std::string_view hex) {
  if (hex.size() != 32) return InvalidArgument("a digest has 32 hex digits");
  Digest digest;
  for (size_t k = 0; k < 32; ++k) {
    const char c = hex[k];
    uint64_t nibble = 0;
    if (c >= '0' && c <= '9') {
      nibble = static_cast<uint64_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      nibble = static_cast<uint64_t>(c - 'a' + 10);
    } else {
      return InvalidArgument("a digest has lower-case hex digits only");
    }
    uint64_t& half = k < 16 ? digest.hi : digest.lo;
    half = half << 4 | nibble;
  }
  return digest;
}

Digest HashBytes(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return Digest{hash.high64, hash.low64};
}

namespace {

// Two key streams, each an arithmetic progression started by a mixed row number: cheap to step,
// and no two (row, word) pairs of a model share a key but by chance. Steps are odd constants from
// the golden ratio and from sqrt(3).
constexpr uint64_t kStepA = 0x9e3779b97f4a7c15ull;
constexpr uint64_t kStepB = 0xbb67ae8584caa73bull;

// splitmix64's finaliser (Steele, Lea, Flood 2014).
constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

uint64_t Product(uint64_t x) { return (x & 0xffffffffull) * (x >> 32); }

}  // namespace

void ContentHash::Add(uint64_t row, uint64_t offset, std::span<const std::byte> bytes) {
  const uint64_t first = offset / 8;
  uint64_t key_a = Mix(row + kStepA) + first * kStepA;
  uint64_t key_b = Mix(~row + kStepB) + first * kStepB;
  uint64_t sum_a = 0;
  uint64_t sum_b = 0;
  const size_t words = bytes.size() / 8;
  const std::byte* at = bytes.data();
  for (size_t k = 0; k < words; ++k, at += 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    sum_a += Product(word ^ key_a) + word;
    sum_b += Product(word + key_b);
    key_a += kStepA;
    key_b += kStepB;
  }
  if (const size_t rest = bytes.size() % 8; rest > 0) {
    uint64_t word = 0;
    std::memcpy(&word, at, rest);
    sum_a += Product(word ^ key_a) + word;
    sum_b += Product(word + key_b);
  }
  Merge(Digest{sum_a, sum_b});
}

void ContentHash::Merge(const Digest& part) { sum_ = Combine(sum_, part); }

Digest Combine(const Digest& a, const Digest& b) { return Digest{a.hi + b.hi, a.lo + b.lo}; }

}  // namespace packcast
