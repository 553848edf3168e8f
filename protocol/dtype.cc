#include "protocol/dtype.h"

#include <array>
#include <cctype>
#include <string>

namespace packcast {
namespace {

struct DtypeRow {
  std::string_view name;
  int bits;
};

constexpr std::array<DtypeRow, kDtypeCount> kRows = {{
    {"BOOL", 8},    {"U8", 8},    {"I8", 8},      {"U16", 16},    {"I16", 16},
    {"F16", 16},    {"BF16", 16}, {"U32", 32},    {"I32", 32},    {"F32", 32},
    {"U64", 64},    {"I64", 64},  {"F64", 64},    {"F8_E4M3", 8}, {"F8_E5M2", 8},
    {"F8_E8M0", 8}, {"F4", 4},    {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"C64", 64},
}};

}  // namespace

int DtypeBits(Dtype dtype) { return kRows[static_cast<size_t>(dtype)].bits; }

std::string_view DtypeName(Dtype dtype) { return kRows[static_cast<size_t>(dtype)].name; }

std::optional<Dtype> DtypeFromName(std::string_view name) {
  std::string folded;
  for (char c : name) {
    if (c != '_') folded += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  for (size_t k = 0; k < kRows.size(); ++k) {
    std::string row;
    for (char c : kRows[k].name) {
      if (c != '_') row += c;
    }
    if (row == folded) return static_cast<Dtype>(k);
  }
  return std::nullopt;
}

std::optional<Dtype> DtypeFromWire(uint64_t value) {
  if (value >= kDtypeCount) return std::nullopt;
  return static_cast<Dtype>(value);
}

}  // namespace packcast
