#include "runtime/data/tensor_reader.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "gtest/gtest.h"

#include "runtime/data/float_convert.h"
#include "tests/runtime/data/broadcast_fixture.h"

namespace packcast {
namespace {

// Reads the whole tensor in slices of random size, as packing into buffers does.
std::vector<std::byte> ReadInSlices(const TensorReader& reader, uint64_t unit,
                                    std::mt19937_64* rng) {
  std::vector<std::byte> out(reader.wire_bytes());
  for (uint64_t at = 0; at < out.size();) {
    const uint64_t part = std::min<uint64_t>(out.size() - at, unit * (1 + (*rng)() % 40));
    reader.Read(at, part, out.data() + at);
    at += part;
  }
  return out;
}

TEST(TensorReader, GathersStridedTensorsOfEveryElementSize) {
  std::mt19937_64 rng(1);
  for (Dtype dtype : {Dtype::kU8, Dtype::kBF16, Dtype::kF32, Dtype::kC64}) {
    for (const std::vector<int64_t>& shape :
         {std::vector<int64_t>{}, {7}, {3, 5}, {4, 1, 6}, {2, 3, 4, 5}, {1, 1}, {3, 0}}) {
      auto tensor = testing::MakeTensor("t", dtype, shape, &rng);
      testing::MakeStrided(&tensor);
      const auto reader = TensorReader::Make(testing::ViewOf(tensor));
      ASSERT_TRUE(reader.ok()) << reader.status();
      const uint64_t unit = static_cast<uint64_t>(DtypeBits(dtype)) / 8;
      EXPECT_EQ(ReadInSlices(*reader, unit, &rng), tensor.wire) << ShapeToString(shape);
    }
  }
}

TEST(TensorReader, NegativeAndZeroStridesWork) {
  const uint8_t memory[] = {1, 2, 3, 4};
  const auto* data = reinterpret_cast<const std::byte*>(memory);
  std::vector<std::byte> out(4);
  const NamedTensor flipped{.name = "f", .shape = {4}, .data = data + 3, .strides = {-1}};
  TensorReader::Make(flipped)->Read(0, 4, out.data());
  EXPECT_EQ(out[0], std::byte{4});
  EXPECT_EQ(out[3], std::byte{1});
  const NamedTensor repeated{.name = "r", .shape = {2, 2}, .data = data, .strides = {0, 1}};
  TensorReader::Make(repeated)->Read(0, 4, out.data());
  EXPECT_EQ(out[2], std::byte{1});
  EXPECT_EQ(out[3], std::byte{2});
}

TEST(TensorReader, ConvertsStridedMasterWeights) {
  std::mt19937_64 rng(2);
  auto tensor = testing::MakeTensor("w", Dtype::kF32, {9, 11}, &rng);
  std::vector<std::byte> expected(tensor.wire.size() / 2);
  ConvertFp32ToFp16(tensor.wire.data(), expected.data(), 99);
  testing::MakeStrided(&tensor);
  const NamedTensor narrow = Fp32ToFp16(testing::ViewOf(tensor)).value();
  EXPECT_EQ(narrow.dtype, Dtype::kF16);
  const auto reader = TensorReader::Make(narrow);
  ASSERT_TRUE(reader.ok());
  EXPECT_FALSE(reader->is_plain());
  EXPECT_EQ(ReadInSlices(*reader, 2, &rng), expected);
}

TEST(TensorReader, TransformsLeaveOtherTypesAlone) {
  const NamedTensor ids{.name = "ids", .dtype = Dtype::kI64, .shape = {0}};
  EXPECT_EQ(Fp32ToBf16(ids)->dtype, Dtype::kI64);
  EXPECT_FALSE(Fp32ToBf16(ids)->source_dtype.has_value());
}

TEST(TensorReader, BadTensorsAreRefusedByName) {
  const std::byte data[16] = {};
  const auto code = [](const NamedTensor& tensor) {
    const Status status = TensorReader::Make(tensor).status();
    EXPECT_NE(status.message().find("\"bad\""), std::string::npos) << status;
    return status.code();
  };
  const auto invalid = StatusCode::kInvalidArgument;
  EXPECT_EQ(code({.name = "bad", .shape = {4}}), invalid);  // no data
  EXPECT_EQ(code({.name = "bad", .shape = {-4}, .data = data}), invalid);
  EXPECT_EQ(code({.name = "bad", .shape = {4}, .data = data, .strides = {1, 1}}), invalid);
  EXPECT_EQ(code({.name = "bad", .dtype = Dtype::kF4, .shape = {4}, .data = data, .strides = {2}}),
            invalid);
  EXPECT_EQ(code({.name = "bad", .shape = {4}, .data = data, .source_dtype = Dtype::kF32}),
            invalid);
}

float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }

// The other way round, exactly: every fp16 is a float.
float WidenFp16(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const float sign = (bits & 0x8000) != 0 ? -1.0f : 1.0f;
  if (exponent == 31) return mantissa != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  return sign * std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
}

// Nearest of the neighbours, the even one when half-way: straight from IEEE 754's definition.
void ExpectNearest(uint32_t bits, uint16_t got, float (*widen)(uint16_t)) {
  const double value = FromBits(bits);
  const double error = std::abs(widen(got) - value);
  for (int step : {-1, 1}) {
    const auto other = static_cast<uint16_t>(got + step);
    if (((other ^ got) & 0x8000) != 0 || !std::isfinite(widen(other))) continue;
    const double other_error = std::abs(widen(other) - value);
    ASSERT_LE(error, other_error) << std::hex << bits;
    ASSERT_TRUE(error < other_error || (got & 1) == 0) << std::hex << bits;
  }
}

float WidenBf16(uint16_t bits) { return FromBits(uint32_t{bits} << 16); }

TEST(FloatConvert, RoundsToNearestEven) {
  std::mt19937_64 rng(4);
  for (int k = 0; k < 2'000'000; ++k) {
    // Half of them near ties: few bits below those that stay.
    uint32_t bits = static_cast<uint32_t>(rng());
    if (k % 2 == 0) bits &= k % 4 == 0 ? 0xffff8000u : 0xfffff000u;
    if (!std::isfinite(FromBits(bits))) continue;
    const uint16_t bf16 = Fp32BitsToBf16(bits);
    if (std::isfinite(WidenBf16(bf16))) ExpectNearest(bits, bf16, WidenBf16);
    const uint16_t fp16 = Fp32BitsToFp16(bits);
    if (std::isfinite(WidenFp16(fp16))) {
      ExpectNearest(bits, fp16, WidenFp16);
    } else {
      ASSERT_GE(std::abs(FromBits(bits)), 65520.0f);
    }
  }
}

TEST(FloatConvert, SpecialValuesStayWhatTheyAre) {
  for (uint32_t bits : {0x7f800001u, 0xffc00000u, 0x7fffffffu, 0xff800001u}) {
    EXPECT_TRUE(std::isnan(WidenBf16(Fp32BitsToBf16(bits))));
    EXPECT_TRUE(std::isnan(WidenFp16(Fp32BitsToFp16(bits))));
  }
  EXPECT_EQ(Fp32BitsToBf16(0x7f800000u), 0x7f80);
  EXPECT_EQ(Fp32BitsToFp16(0xff800000u), 0xfc00);
  EXPECT_EQ(Fp32BitsToBf16(0x80000000u), 0x8000);
  EXPECT_EQ(Fp32BitsToFp16(0x80000000u), 0x8000);
  EXPECT_EQ(Fp32BitsToFp16(std::bit_cast<uint32_t>(65519.0f)), 0x7bff);
  EXPECT_EQ(Fp32BitsToFp16(std::bit_cast<uint32_t>(65520.0f)), 0x7c00);
  EXPECT_EQ(Fp32BitsToBf16(0x7f7fffffu), 0x7f80);
}

}  // namespace
}  // namespace packcast
