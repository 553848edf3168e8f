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

void ContentHash::Add(uint64_t row, uint64_t offset, std::span<const std::byte> bytes) {
  using content_hash::KeyA, content_hash::KeyB, content_hash::TermA, content_hash::TermB;
  using content_hash::kStepA, content_hash::kStepB;
  const uint64_t first = offset / 8;
  uint64_t key_a = KeyA(row) + first * kStepA;
  uint64_t key_b = KeyB(row) + first * kStepB;
  uint64_t sum_a = 0;
  uint64_t sum_b = 0;
  const size_t words = bytes.size() / 8;
  const std::byte* at = bytes.data();
  for (size_t k = 0; k < words; ++k, at += 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    sum_a += TermA(word, key_a);
    sum_b += TermB(word, key_b);
    key_a += kStepA;
    key_b += kStepB;
  }
  if (const size_t rest = bytes.size() % 8; rest > 0) {
    uint64_t word = 0;
    std::memcpy(&word, at, rest);
    sum_a += TermA(word, key_a);
    sum_b += TermB(word, key_b);
  }
  Merge(Digest{sum_a, sum_b});
}

void ContentHash::Merge(const Digest& part) { sum_ = Combine(sum_, part); }

Digest Combine(const Digest& a, const Digest& b) { return Digest{a.hi + b.hi, a.lo + b.lo}; }

}  // namespace packcast
