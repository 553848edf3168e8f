#include "protocol/codec.h"

#include <random>
#include <string>

#include <gtest/gtest.h>

#include "protocol/fields.h"
#include "protocol/manifest.h"
#include "protocol/messages.h"

namespace packcast {
namespace {

using std::string_literals::operator""s;

Status Error(const std::string& bytes, const DecodeLimits& limits = {}) {
  return Decode(bytes, limits).status();
}

// `depth` arrays, each in the one before.
std::string Nested(size_t depth) { return std::string(depth, '\x91') + '\xc0'; }

Value RandomValue(std::mt19937_64* rng, int depth) {
  const auto text = [rng] {
    static const std::string kPieces[] = {
        "a", "weight.", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\n", std::string(1, '\0')};
    std::string out;
    for (uint64_t k = (*rng)() % 9; k > 0; --k) out += kPieces[(*rng)() % std::size(kPieces)];
    return out;
  };
  switch ((*rng)() % (depth > 0 ? 9 : 7)) {
    case 0: return Value();
    case 1: return (*rng)() % 2 == 0;
    case 2: return static_cast<int64_t>((*rng)() >> ((*rng)() % 64));
    case 3: return -static_cast<int64_t>((*rng)() >> (1 + (*rng)() % 63)) - 1;
    case 4: return 0.5 + static_cast<double>((*rng)() % 1000000);
    case 5: return text();
    case 6: return Bytes((*rng)() % 70, static_cast<std::byte>((*rng)()));
    case 7: {
      ValueArray array;
      for (uint64_t k = (*rng)() % 20; k > 0; --k) array.push_back(RandomValue(rng, depth - 1));
      return array;
    }
    default: {
      ValueMap map;
      for (uint64_t k = (*rng)() % 20; k > 0; --k) {
        map.emplace_back(std::to_string(k) + text(), RandomValue(rng, depth - 1));
      }
      return map;
    }
  }
}

// Sanitized builds are 20 times slower and look at fewer values.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kRounds = 10;
#else
constexpr int kRounds = 100;
#endif

TEST(Codec, RandomValuesGoThereAndBack) {
  std::mt19937_64 rng(1);
  for (int k = 0; k < 20 * kRounds; ++k) {
    const Value value = RandomValue(&rng, 4);
    const std::string bytes = Encode(value);
    const StatusOr<Value> back = Decode(bytes);
    ASSERT_TRUE(back.ok()) << back.status() << " " << value.ToString();
    EXPECT_EQ(*back, value);
    EXPECT_EQ(Encode(*back), bytes);
  }
}

TEST(Codec, EveryPrefixIsCutShort) {
  std::mt19937_64 rng(2);
  for (int k = 0; k < kRounds; ++k) {
    const std::string bytes = Encode(RandomValue(&rng, 3));
    for (size_t cut = 0; cut < bytes.size(); ++cut) {
      EXPECT_EQ(Error(bytes.substr(0, cut)).code(), StatusCode::kInvalidArgument);
    }
  }
}

TEST(Codec, MutatedBytesDecodeToSomethingSoundOrToAnError) {
  std::mt19937_64 rng(3);
  size_t fine = 0;
  for (int k = 0; k < 200 * kRounds; ++k) {
    std::string bytes = Encode(RandomValue(&rng, 3));
    for (uint64_t changes = 1 + rng() % 4; changes > 0 && !bytes.empty(); --changes) {
      bytes[rng() % bytes.size()] = static_cast<char>(rng());
    }
    const StatusOr<Value> value = Decode(bytes);
    if (!value.ok()) continue;
    ++fine;
    const std::string again = Encode(*value);
    EXPECT_EQ(Encode(Decode(again).value()), again);
  }
  EXPECT_GT(fine, static_cast<size_t>(kRounds));
}

TEST(Codec, RandomBytesAreHarmless) {
  std::mt19937_64 rng(4);
  for (int k = 0; k < 200 * kRounds; ++k) {
    std::string bytes(rng() % 40, '\0');
    for (char& c : bytes) c = static_cast<char>(rng());
    (void)Decode(bytes);
  }
}

// Each claims far more than it brings: msgpack-c alone would allocate for the claim.
TEST(Codec, ClaimsOfManyItemsAreRefused) {
  for (const std::string& bomb :
       {"\xdd\xff\xff\xff\xf0"s, "\xdf\xff\xff\xff\xf0"s, "\xdc\xff\xff"s, "\xde\xff\xff"s,
        "\xdb\xff\xff\xff\xf0"s, "\xc6\xff\xff\xff\xf0"s, "\xdd\x00\x01\xff\xff\xc0"s}) {
    EXPECT_EQ(Error(bomb).code(), StatusCode::kInvalidArgument);
  }
}

TEST(Codec, NestingIsBounded) {
  EXPECT_TRUE(Decode(Nested(limits::kValueDepth)).ok());
  EXPECT_EQ(Error(Nested(limits::kValueDepth + 1)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Error(Nested(1000000)).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(Decode(Nested(3), {.depth = 3}).ok());
  EXPECT_FALSE(Decode(Nested(4), {.depth = 3}).ok());
}

TEST(Codec, SizesAreBounded) {
  const DecodeLimits limits{.items = 3, .string_bytes = 4, .bytes_bytes = 5};
  EXPECT_TRUE(Decode(Encode(ValueArray(3)), limits).ok());
  EXPECT_FALSE(Decode(Encode(ValueArray(4)), limits).ok());
  EXPECT_TRUE(Decode(Encode("abcd"), limits).ok());
  EXPECT_FALSE(Decode(Encode("abcde"), limits).ok());
  EXPECT_TRUE(Decode(Encode(Bytes(5)), limits).ok());
  EXPECT_FALSE(Decode(Encode(Bytes(6)), limits).ok());
  EXPECT_TRUE(Decode(Encode(Bytes(limits::kBytesBytes))).ok());
  EXPECT_FALSE(Decode(Encode(Bytes(limits::kBytesBytes + 1))).ok());
  EXPECT_FALSE(Decode(Encode(std::string(limits::kStringBytes + 1, 'a'))).ok());
}

TEST(Codec, ItemsAreBoundedInAll) {
  const DecodeLimits limits{.total_items = 5};
  EXPECT_TRUE(Decode(Encode(ValueArray(2, ValueArray(1))), limits).ok());
  const std::string six = Encode(ValueArray(3, ValueMap{{"k", 1}}));
  EXPECT_EQ(Error(six, limits),
            InvalidArgument("msgpack value exceeds a limit: more than 5 items"));
  // As many as fit into a frame would take a gigabyte; nested claims of maps a hundred megabytes.
  const Value many(ValueArray(64, ValueArray(limits::kValueItems)));
  EXPECT_NE(Error(Encode(many)).message().find("1048576 items"), std::string::npos);
  std::string nested;
  for (size_t k = 0; k < limits::kValueDepth; ++k) nested += "\xdf\x00\x01\xff\xff\xa1k"s;
  EXPECT_EQ(Error(nested + std::string(1u << 17, '\xc0')),
            InvalidArgument("msgpack value is cut short"));
}

// The largest messages there are: they must fit what one decoding may hold.
TEST(Codec, LargestMessagesDecode) {
  ManifestPart part;
  for (size_t k = 0; k < limits::kManifestPartRows; ++k) {
    part.rows.push_back(RowToValue({.name = "row " + std::to_string(k),
                                    .shape = std::vector<int64_t>(limits::kTensorRank, 1),
                                    .auxiliary = {"scale", "zero point"}}));
  }
  EXPECT_TRUE(Decode(Encode(ToValue(part))).ok());
  ValueMap phases{{"receive", 0.5}, {"unpack", 0.5}, {"hash", 0.5}, {"install", 0.5}};
  const Value worker = ValueMap{{"name", "worker/0"},   {"replica", "replica/0"},
                                {"version", "3.17"},    {"digest", ToHex(Digest{1, 2})},
                                {"verified", true},     {"seconds", 0.5},
                                {"pause_seconds", 0.5}, {"phases", std::move(phases)}};
  const Value report = ValueMap{{"workers", ValueArray(limits::kMembers, worker)}};
  const std::string bytes = Encode(ValueArray(8, report));
  EXPECT_LE(bytes.size(), limits::kControlFrameBytes);
  EXPECT_TRUE(Decode(bytes).ok());
}

TEST(Codec, NothingMayFollowTheValue) {
  const Status status = Error(Encode(7) + "xy");
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("2 bytes follow"), std::string::npos) << status;
  EXPECT_EQ(Error("").code(), StatusCode::kInvalidArgument);
}

TEST(Codec, MapKeysAreStringsAndComeOnce) {
  EXPECT_NE(Error("\x82\xa1k\x01\xa1k\x02").message().find("\"k\" comes twice"), std::string::npos);
  ValueMap many;  // more keys than are compared with each other
  for (int k = 0; k < 40; ++k) many.emplace_back("key" + std::to_string(k), k);
  EXPECT_TRUE(Decode(Encode(many)).ok());
  many.emplace_back("key7", 0);
  EXPECT_NE(Error(Encode(many)).message().find("\"key7\" comes twice"), std::string::npos);
  EXPECT_NE(Error("\x81\x07\x01").message().find("map key is not a string"), std::string::npos);
  EXPECT_FALSE(Decode("\x81\xa1\xff\x01"s).ok());
}

TEST(Codec, StringsAreUtf8) {
  for (const std::string& bad :
       {"\xff"s, "\xc3"s, "\xc0\x80"s, "\xe0\x80\x80"s, "\xed\xa0\x80"s, "\xf4\x90\x80\x80"s,
        "\x80"s, "a\xf0\x9f\x98"s, "\xf8\x88\x80\x80\x80"s}) {
    EXPECT_FALSE(Decode(Encode(bad)).ok()) << bad;
  }
  for (const std::string& good : {""s, "\x7f"s, "\xc2\x80"s, "\xed\x9f\xbf"s, "\xee\x80\x80"s,
                                  "\xf4\x8f\xbf\xbf"s, "nul \0 inside"s}) {
    EXPECT_TRUE(Decode(Encode(good)).ok()) << good;
  }
}

TEST(Codec, ExtTypesAreRefused) {
  EXPECT_FALSE(Decode("\xd4\x01\x00"s).ok());
  EXPECT_FALSE(Decode("\xc7\x00\x01"s).ok());
  EXPECT_FALSE(Decode("\x91\xd6\xff\x00\x00\x00\x00"s).ok());  // a timestamp
  EXPECT_FALSE(Decode("\xc1"s).ok());                          // never used by msgpack
}

TEST(Codec, IntegersTakeTheirShortestForm) {
  EXPECT_EQ(Encode(127), "\x7f");
  EXPECT_EQ(Encode(int64_t{128}), Encode(uint64_t{128}));
  EXPECT_EQ(Encode(128), "\xcc\x80");
  EXPECT_EQ(Encode(-1), "\xff");
  EXPECT_EQ(Encode(~uint64_t{0}), "\xcf\xff\xff\xff\xff\xff\xff\xff\xff");
  EXPECT_EQ(Encode(0.5), "\xcb\x3f\xe0\0\0\0\0\0\0"s);
}

// Fields that hold a float take integers: a whole number may travel as one.
TEST(Codec, FloatsKeepTheirValue) {
  for (const double number :
       {0.0, 1.0, -3.0, 0.1, 1e300, 9007199254740993.0, 1.8446744073709552e19}) {
    double back = -1;
    EXPECT_TRUE(Decode(Encode(number))->GetDouble(&back));
    EXPECT_EQ(back, number);
  }
}

TEST(Codec, OtherFormsOfANumberAreRead) {
  EXPECT_EQ(Decode("\xcf\0\0\0\0\0\0\0\x07"s).value(), Value(7));
  EXPECT_EQ(Decode("\xca\x3f\x80\x00\x00"s).value(), Value(1.0));  // 32-bit float
}

}  // namespace
TEST(Codec, WhatMayNotBeDecodedIsKnownBeforehand) {
  const auto nested = [](size_t depth) {
    Value value = 1;
    for (size_t k = 0; k < depth; ++k) value = Value(ValueArray{std::move(value)});
    return value;
  };
  const Value fit[] = {Value(),
                       Value(1),
                       Value(std::string(limits::kStringBytes, 'x')),
                       Value(Bytes(limits::kBytesBytes)),
                       nested(limits::kValueDepth),
                       Value(ValueArray(limits::kValueItems)),
                       Value(ValueMap{{"key", "\u00e4"}})};
  const Value unfit[] = {Value(std::string(limits::kStringBytes + 1, 'x')),
                         Value(Bytes(limits::kBytesBytes + 1)),
                         nested(limits::kValueDepth + 1),
                         Value(ValueArray(limits::kValueItems + 1)),
                         Value("\xff"),
                         Value(ValueMap{{"\xff", 1}}),
                         Value(ValueMap{{"key", "\xff"}})};
  for (const Value& value : fit) {
    EXPECT_EQ(CheckEncodable(value), OkStatus());
    EXPECT_TRUE(Decode(Encode(value)).ok());
  }
  for (const Value& value : unfit) {
    EXPECT_EQ(CheckEncodable(value).code(), StatusCode::kInvalidArgument);
    EXPECT_FALSE(Decode(Encode(value)).ok());
  }
  const Value many = ValueArray(9, ValueArray(limits::kValueItems));
  EXPECT_FALSE(CheckEncodable(many).ok());
  EXPECT_FALSE(Decode(Encode(many)).ok());
}

}  // namespace packcast
