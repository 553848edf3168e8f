#pragma once

#include <cstddef>
#include <cstdint>

namespace packcast {

// IEEE 754 binary32 bits to narrower ones, rounded to nearest even. NaN stays NaN (quiet, sign and
// upper payload kept), beyond the largest finite value becomes infinity, fp16 keeps subnormals.
// Inline and constexpr, so that kernels run the very same code.
constexpr uint16_t Fp32BitsToBf16(uint32_t bits) {
  // A NaN gets its quiet bit, lest cutting the payload makes it an infinity.
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

constexpr uint16_t Fp32BitsToFp16(uint32_t bits) {
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) {
    return static_cast<uint16_t>(sign | 0x7e00u | ((size >> 13) & 0x3ffu));
  }
  if (size >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520: half-way up
  if (size >= 0x38800000u) {                                              // 2^-14: normal
    const uint32_t rounded = size + 0xfffu + ((size >> 13) & 1u);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
  }
  if (size <= 0x33000000u) return static_cast<uint16_t>(sign);  // 2^-25: half-way to zero
  const uint32_t shift = 126u - (size >> 23);                   // to units of 2^-24
  const uint32_t mantissa = (size & 0x7fffffu) | 0x800000u;
  const uint32_t rest = mantissa & ((1u << shift) - 1u);
  const uint32_t half = 1u << (shift - 1u);
  uint32_t units = mantissa >> shift;
  if (rest > half || (rest == half && (units & 1u) != 0)) ++units;
  return static_cast<uint16_t>(sign | units);
}

// `count` elements from `from` (4 bytes each) to `to` (2 bytes each); neither needs alignment.
void ConvertFp32ToBf16(const std::byte* from, std::byte* to, uint64_t count);
void ConvertFp32ToFp16(const std::byte* from, std::byte* to, uint64_t count);

}  // namespace packcast
