#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "protocol/status.h"

namespace packcast {

// 128 bits that name a manifest, a plan or content. Not a MAC: it finds accidents, not attackers.
struct Digest {
  uint64_t hi = 0;
  uint64_t lo = 0;
  friend constexpr auto operator<=>(const Digest&, const Digest&) = default;
  constexpr bool IsZero() const { return hi == 0 && lo == 0; }
};

// 32 lower-case hex digits, hi first.
std::string ToHex(const Digest& digest);
StatusOr<Digest> DigestFromHex(std::string_view hex);

// XXH3-128 of `bytes`; for manifests and plans, in their canonical encoding.
Digest HashBytes(std::string_view bytes);

// A commutative sum of keyed hashes over (row, offset, bytes): parts of a model hashed anywhere,
// in any order and cut anywhere at a multiple of 8 bytes, add up to the digest of the whole. The
// arithmetic is 32x32->64 multiplication and addition only, so that a GPU kernel can fuse it into
// its copy. The definition is normative in docs/protocol.md ("content_digest").
//
// Add() takes `bytes` that stand at byte `offset` of row `row`; offset is a multiple of 8, and
// bytes.size() too unless they end the row (missing bytes of the last word count as zero).
class ContentHash {
 public:
  void Add(uint64_t row, uint64_t offset, std::span<const std::byte> bytes);
  void Merge(const Digest& part);
  const Digest& digest() const { return sum_; }

 private:
  Digest sum_;
};

// `a` + `b` in the sense of ContentHash.
Digest Combine(const Digest& a, const Digest& b);

// The arithmetic of ContentHash, for kernels that do it beside their copying.
namespace content_hash {

// Two key streams, each an arithmetic progression started by a mixed row number: cheap to step,
// and no two (row, word) pairs of a model share a key but by chance. Steps are odd constants from
// the golden ratio and from sqrt(3).
inline constexpr uint64_t kStepA = 0x9e3779b97f4a7c15ull;
inline constexpr uint64_t kStepB = 0xbb67ae8584caa73bull;

// splitmix64's finaliser (Steele, Lea, Flood 2014).
constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

constexpr uint64_t Product(uint64_t x) { return (x & 0xffffffffull) * (x >> 32); }

// The keys of a row's word 0; word k has those plus k steps.
constexpr uint64_t KeyA(uint64_t row) { return Mix(row + kStepA); }
constexpr uint64_t KeyB(uint64_t row) { return Mix(~row + kStepB); }

// What one little-endian word adds to the digest's halves (hi: a, lo: b).
constexpr uint64_t TermA(uint64_t word, uint64_t key) { return Product(word ^ key) + word; }
constexpr uint64_t TermB(uint64_t word, uint64_t key) { return Product(word + key); }

}  // namespace content_hash

}  // namespace packcast
