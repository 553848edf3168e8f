// Byte ranges: what shares memory with what, and how values that hold some travel.
#include "protocol/byte_range.h"

#include <random>
#include <string>
#include <tuple>

#include <gtest/gtest.h>

#include "protocol/codec.h"
#include "protocol/fields.h"
#include "protocol/limits.h"

namespace packcast {
namespace {

Bytes Filled(size_t size, int first = 0) {
  Bytes bytes(size);
  for (size_t k = 0; k < size; ++k) bytes[k] = static_cast<std::byte>(first + 7 * k);
  return bytes;
}
ByteRange Large(int first = 0) { return Filled(limits::kApartBytes, first); }

Status DecodeError(std::string_view bytes, ApartRanges apart) {
  return DecodeApart(bytes, std::move(apart)).status();
}

TEST(ByteRangeTest, TakesBytesOverAndSharesThem) {
  Bytes bytes = Filled(1000);
  const std::byte* const memory = bytes.data();
  const ByteRange range = std::move(bytes);
  EXPECT_EQ(range.data(), memory);
  const ByteRange copy = range;
  EXPECT_EQ(copy.data(), memory);
  EXPECT_EQ(range.Part(10, 20).data(), memory + 10);
  EXPECT_EQ(range.Part(10, 20).size(), 20u);
  EXPECT_EQ(range.Part(990, 20).size(), 10u);
  EXPECT_EQ(range.Part(2000, 20).size(), 0u);
  EXPECT_EQ(range.Copy(), Filled(1000));
  EXPECT_NE(range.Copy().data(), memory);
  EXPECT_EQ(range, ByteRange(Filled(1000)));
  EXPECT_FALSE(range == ByteRange(Filled(1000, 1)));
  EXPECT_TRUE(ByteRange().empty());
}

TEST(ByteRangeTest, LentMemoryIsReleasedOnceWithTheLastThatHoldsIt) {
  const Bytes memory = Filled(100);
  int released = 0;
  {
    Value holder;
    {
      const ByteRange range = ByteRange::Lend(memory, [&] { ++released; });
      EXPECT_EQ(range.data(), memory.data());
      holder = ValueArray{Value(range.Part(3, 4)), Value(range)};
    }
    EXPECT_EQ(released, 0);
    const Value copy = holder;
    holder = Value();
    EXPECT_EQ(released, 0);
  }
  EXPECT_EQ(released, 1);
}

TEST(ByteRangeTest, IsBytesToWhoeverAsksForThem) {
  const Value range = Large();
  EXPECT_EQ(range.KindName(), "bytes");
  EXPECT_EQ(range.ToString(), "<65536 bytes>");
  EXPECT_EQ(range, Value(Large().Copy()));
  EXPECT_EQ(Value(Large().Copy()), range);
  EXPECT_FALSE(range == Value(Large(1)));
  EXPECT_FALSE(range == Value("text"));
  EXPECT_EQ(Encode(range), Encode(Value(Large().Copy()))) << "alone it travels inside";
  Bytes bytes;
  ASSERT_TRUE(fields::Convert<Bytes>::From(range, &bytes).ok());
  EXPECT_EQ(bytes, Large().Copy());
  ByteRange out;
  ASSERT_TRUE(fields::Convert<ByteRange>::From(range, &out).ok());
  EXPECT_EQ(out.data(), range.AsByteRange()->data());
  ASSERT_TRUE(fields::Convert<ByteRange>::From(Value(Filled(3)), &out).ok());
  EXPECT_EQ(out, ByteRange(Filled(3)));
  EXPECT_EQ(fields::Convert<ByteRange>::From(Value(7), &out),
            InvalidArgument("expected bytes, got integer 7"));
}

TEST(ByteRangeTest, OnlyLongOnesTravelApart) {
  const ByteRange large = Large();
  const Value value = ValueMap{
      {"short", large.Part(1, limits::kApartBytes - 1)}, {"long", large}, {"own", large.Copy()}};
  ApartRanges apart;
  const std::string bytes = Encode(value, &apart);
  ASSERT_EQ(apart.size(), 1u);
  EXPECT_EQ(apart[0].data(), large.data());
  const StatusOr<Value> back = DecodeApart(bytes, apart);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, value);
  EXPECT_EQ(back->Find("long")->AsByteRange()->data(), large.data());
}

TEST(ByteRangeTest, TravelsAsAnExtValueWithItsIndex) {
  ApartRanges apart;
  const std::string bytes = Encode(ValueArray{Value(Large()), Value(1), Value(Large(1))}, &apart);
  EXPECT_EQ(bytes, std::string("\x93\xd4\x01\x00\x01\xd4\x01\x01", 8));
}

TEST(ByteRangeTest, WhatRefersToOtherRangesThanThoseThatCameIsRefused) {
  using std::string_literals::operator""s;
  const std::string one = "\xd4\x01\x00"s;
  EXPECT_TRUE(DecodeApart(one, {Large()}).ok());
  EXPECT_TRUE(DecodeApart(one, {ByteRange()}).ok()) << "however short";
  EXPECT_EQ(DecodeError(one, {}), InvalidArgument("a byte range is referred to that did not come"));
  EXPECT_EQ(DecodeError(one, {Large(), Large()}),
            InvalidArgument("2 byte ranges came with a value that refers to 1"));
  EXPECT_EQ(DecodeError("\xc0", {Large()}),
            InvalidArgument("1 byte ranges came with a value that refers to 0"));
  const Status order = InvalidArgument("a byte range is not referred to in its turn");
  EXPECT_EQ(DecodeError("\x92\xd4\x01\x01\xd4\x01\x00"s, {Large(), Large()}), order);
  EXPECT_EQ(DecodeError("\x92\xd4\x01\x00\xd4\x01\x00"s, {Large()}), order);
  const Status ext = InvalidArgument("an ext value that is no byte range");
  EXPECT_EQ(DecodeError("\xd4\x02\x00"s, {Large()}), ext);
  EXPECT_EQ(DecodeError("\xd5\x01\x00\x00"s, {Large()}), ext);
  EXPECT_EQ(DecodeError("\xc7\x00\x01"s, {Large()}), ext);
  EXPECT_EQ(DecodeError("\x81\xd4\x01\x00\xc0"s, {Large()}).code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(Decode(one).ok()) << "in a digest or an envelope there are none";
}

TEST(ByteRangeTest, LimitsOfThoseThatTravelApart) {
  const auto of = [](size_t count, size_t size) {
    static const Bytes memory(limits::kControlFrameBytes + 1);
    return Value(ValueArray(count, Value(ByteRange(std::span(memory).first(size), nullptr))));
  };
  const auto apart_of = [](const Value& value) {
    ApartRanges apart;
    const std::string bytes = Encode(value, &apart);
    EXPECT_EQ(DecodeApart(bytes, apart).value(), value);
    return apart.size();
  };
  EXPECT_EQ(CheckEncodableApart(of(2, limits::kControlFrameBytes)), OkStatus());
  EXPECT_EQ(apart_of(of(2, limits::kControlFrameBytes)), 2u);
  const Status too_much = InvalidArgument(
      "the byte ranges of a message to another process have at most 16777216 bytes "
      "each, and 33554432 together");
  EXPECT_EQ(CheckEncodableApart(of(1, limits::kControlFrameBytes + 1)), too_much);
  EXPECT_EQ(CheckEncodableApart(of(3, limits::kControlFrameBytes)), too_much);
  EXPECT_EQ(CheckEncodable(of(1, limits::kBytesBytes)), OkStatus());
  EXPECT_FALSE(CheckEncodable(of(1, limits::kBytesBytes + 1)).ok());
  // What finds no room apart travels inside, if it may.
  for (const auto& [count, size, apart] :
       {std::tuple(16u, limits::kApartBytes, 16u), std::tuple(20u, limits::kApartBytes, 16u),
        std::tuple(20u, limits::kApartBytes - 1, 0u), std::tuple(5u, limits::kBytesBytes, 4u)}) {
    EXPECT_EQ(CheckEncodableApart(of(count, size)), OkStatus());
    EXPECT_EQ(apart_of(of(count, size)), apart);
  }
}

TEST(ByteRangeTest, AMovedOneIsEmpty) {
  ByteRange range = Filled(1000);
  ByteRange taken = std::move(range);
  EXPECT_TRUE(range.empty());  // NOLINT
  EXPECT_EQ(range.data(), nullptr);
  range = std::move(taken);
  EXPECT_TRUE(taken.empty());  // NOLINT
  EXPECT_EQ(range, ByteRange(Filled(1000)));
}

// Any value with ranges in any places comes back as it was, bit for bit, inside or apart.
TEST(ByteRangeTest, RandomValuesComeBack) {
  std::mt19937_64 rng(20261202);
  const ByteRange memory = Filled(3 * limits::kApartBytes);
  for (int round = 0; round < 300; ++round) {
    const std::function<Value(int)> make = [&](int depth) -> Value {
      switch (rng() % (depth > 0 ? 6 : 4)) {
        case 0: return Value(static_cast<int64_t>(rng()));
        case 1: return memory.Part(rng() % 1000, rng() % 2000);
        case 2: return memory.Part(rng() % 1000, rng() % 300).Copy();
        case 3: return memory.Part(rng() % memory.size() / 2, limits::kApartBytes + rng() % 5000);
        case 4: {
          ValueArray array;
          for (uint64_t k = rng() % 6; k > 0; --k) array.push_back(make(depth - 1));
          return array;
        }
        default: {
          ValueMap map;
          for (uint64_t k = rng() % 6; k > 0; --k) {
            map.emplace_back("k" + std::to_string(k), make(depth - 1));
          }
          return map;
        }
      }
    };
    const Value value = make(3);
    ASSERT_EQ(CheckEncodableApart(value), OkStatus());
    ApartRanges apart;
    const std::string bytes = Encode(value, &apart);
    const StatusOr<Value> back = DecodeApart(bytes, apart);
    ASSERT_TRUE(back.ok()) << back.status();
    ASSERT_EQ(*back, value);
    ApartRanges again;
    ASSERT_EQ(Encode(*back, &again), bytes);
    ASSERT_EQ(again, apart);
    ASSERT_EQ(Decode(Encode(value)).value(), value);
  }
}

}  // namespace
}  // namespace packcast
