#pragma once

#include <cstddef>
#include <cstdint>

namespace packcast {

// IEEE 754 binary32 bits to narrower ones, rounded to nearest even. NaN stays NaN (quiet, sign and
// upper payload kept), beyond the largest finite value becomes infinity, fp16 keeps subnormals.
uint16_t Fp32BitsToBf16(uint32_t bits);
uint16_t Fp32BitsToFp16(uint32_t bits);

// `count` elements from `from` (4 bytes each) to `to` (2 bytes each); neither needs alignment.
void ConvertFp32ToBf16(const std::byte* from, std::byte* to, uint64_t count);
void ConvertFp32ToFp16(const std::byte* from, std::byte* to, uint64_t count);

}  // namespace packcast
