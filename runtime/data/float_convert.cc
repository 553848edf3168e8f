#include "runtime/data/float_convert.h"

#include <cstring>

namespace packcast {
namespace {

template <uint16_t (*Convert)(uint32_t)>
void ConvertAll(const std::byte* from, std::byte* to, uint64_t count) {
  for (uint64_t k = 0; k < count; ++k) {
    uint32_t bits;
    std::memcpy(&bits, from + 4 * k, 4);
    const uint16_t narrow = Convert(bits);
    std::memcpy(to + 2 * k, &narrow, 2);
  }
}

}  // namespace

void ConvertFp32ToBf16(const std::byte* from, std::byte* to, uint64_t count) {
  ConvertAll<Fp32BitsToBf16>(from, to, count);
}

void ConvertFp32ToFp16(const std::byte* from, std::byte* to, uint64_t count) {
  ConvertAll<Fp32BitsToFp16>(from, to, count);
}

}  // namespace packcast
