#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace packcast {

// Element types of tensors on the wire; the names and meanings are those of safetensors
// (https://huggingface.co/docs/safetensors, "Format"), the values are ours and append only.
// packcast moves bytes: the type is metadata, except where a transform converts.
enum class Dtype : uint8_t {
  kBool = 0,
  kU8 = 1,
  kI8 = 2,
  kU16 = 3,
  kI16 = 4,
  kF16 = 5,
  kBF16 = 6,
  kU32 = 7,
  kI32 = 8,
  kF32 = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
  kF8E4M3 = 13,
  kF8E5M2 = 14,
  kF8E8M0 = 15,
  kF4 = 16,
  kF6E2M3 = 17,
  kF6E3M2 = 18,
  kC64 = 19,
};
inline constexpr int kDtypeCount = 20;

// Bits of one element; 4 and 6 for the sub-byte types, which come packed.
int DtypeBits(Dtype dtype);

// The safetensors spelling: "BF16", "F8_E4M3" and so on.
std::string_view DtypeName(Dtype dtype);

// The type of a safetensors spelling, or of its usual lower-case short form ("bf16", "f8e4m3").
std::optional<Dtype> DtypeFromName(std::string_view name);

// The type of a wire value; nothing for an unknown one.
std::optional<Dtype> DtypeFromWire(uint64_t value);

}  // namespace packcast
