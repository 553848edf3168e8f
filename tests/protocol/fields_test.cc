#include "protocol/fields.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "protocol/contract.h"

namespace packcast {
namespace {

struct Inner {
  uint32_t size = 5;
  template <class V>
  void Fields(V& v) {
    v("size", size);
  }
};

struct Outer {
  std::vector<Inner> inner;
  std::optional<uint64_t> maybe;
  int8_t small = -1;
  double number = 0.5;
  bool flag = true;
  template <class V>
  void Fields(V& v) {
    v("inner", inner);
    v("maybe", maybe);
    v("small", small);
    v("number", number);
    v("flag", flag);
  }
};

template <class T>
void ExpectRoundTrip(const T& value) {
  const StatusOr<T> back = FromValue<T>(ToValue(value));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, value);
}

TEST(Fields, PlainKindsGoThereAndBack) {
  ExpectRoundTrip(std::numeric_limits<uint64_t>::max());
  ExpectRoundTrip(std::numeric_limits<int64_t>::min());
  ExpectRoundTrip(uint8_t{255});
  ExpectRoundTrip(true);
  ExpectRoundTrip(std::string("text"));
  ExpectRoundTrip(Bytes(3));
  ExpectRoundTrip(Digest{1, 2});
  ExpectRoundTrip(Term{limits::kTermCounter, ~uint64_t{0}});
  ExpectRoundTrip(Version{Term{1, 2}, EpochId(3)});
  ExpectRoundTrip(GenerationId(9));
  ExpectRoundTrip(Milliseconds(1500));
  ExpectRoundTrip(std::vector<Digest>{{1, 2}, {3, 4}});
  ExpectRoundTrip(InstallMode::kInPlace);
}

TEST(Fields, WireFormsAreTheDocumentedOnes) {
  EXPECT_EQ(ToValue(Digest{1, 0xff}), Value("000000000000000100000000000000ff"));
  EXPECT_EQ(ToValue(Term{3, 4}), (Value(ValueArray{3, 4})));
  EXPECT_EQ(ToValue(Version{Term{3, 4}, EpochId(5)}), (Value(ValueArray{3, 4, 5})));
  EXPECT_EQ(ToValue(Microseconds(1999)), Value(1));  // whole milliseconds, rounded down
  EXPECT_EQ(ToValue(Role::kWorker), Value(1));
}

TEST(Fields, AbsentOptionalsAreLeftOut) {
  Outer outer;
  EXPECT_EQ(ToValue(outer).Find("maybe"), nullptr);
  outer.maybe = 0;
  EXPECT_EQ(*ToValue(outer).Find("maybe"), Value(0));
  EXPECT_FALSE(FromValue<Outer>(ValueMap{{"maybe", Value()}})->maybe.has_value());
}

TEST(Fields, MissingKeysKeepDefaults) {
  const Outer outer = FromValue<Outer>(ValueMap{{"inner", ValueArray{ValueMap{}}}}).value();
  EXPECT_EQ(outer.small, -1);
  EXPECT_EQ(outer.inner.at(0).size, 5u);
}

TEST(Fields, NumbersOutOfRangeAreRefused) {
  EXPECT_FALSE(FromValue<Outer>(ValueMap{{"small", 128}}).ok());
  EXPECT_FALSE(FromValue<uint32_t>(Value(-1)).ok());
  EXPECT_FALSE(FromValue<uint32_t>(Value(uint64_t{1} << 32)).ok());
  EXPECT_FALSE(FromValue<int64_t>(Value(uint64_t{1} << 63)).ok());
  EXPECT_FALSE(FromValue<uint64_t>(Value(1.0)).ok());
  EXPECT_FALSE(FromValue<bool>(Value(1)).ok());
  EXPECT_EQ(*FromValue<double>(Value(3)), 3.0);
}

TEST(Fields, UnknownEnumCodesAreRefused) {
  EXPECT_FALSE(FromValue<InstallMode>(Value(2)).ok());
  EXPECT_FALSE(FromValue<Layout>(Value(-1)).ok());
  EXPECT_FALSE(FromValue<Role>(Value("worker")).ok());
}

TEST(Fields, DurationsAreBounded) {
  EXPECT_FALSE(FromValue<Duration>(Value(-1)).ok());
  EXPECT_FALSE(FromValue<Duration>(Value(int64_t{367} * 24 * 3600 * 1000)).ok());
  EXPECT_TRUE(FromValue<Duration>(Value(int64_t{366} * 24 * 3600 * 1000)).ok());
}

TEST(Fields, TermsAndVersionsHaveTheirLength) {
  EXPECT_FALSE(FromValue<Term>(ValueArray{1}).ok());
  EXPECT_FALSE(FromValue<Term>(ValueArray{1, 2, 3}).ok());
  EXPECT_FALSE(FromValue<Term>(ValueArray{1, -2}).ok());
  EXPECT_FALSE(FromValue<Version>(ValueArray{1, 2}).ok());
  EXPECT_FALSE(FromValue<Digest>(Value("00")).ok());
}

TEST(Fields, ErrorsNameThePath) {
  const Value value = ValueMap{{"inner", ValueArray{ValueMap{}, ValueMap{{"size", "big"}}}}};
  const Status status = FromValue<Outer>(value).status();
  EXPECT_EQ(status.message(),
            "inner: size: expected an unsigned integer of 32 bits, got string \"big\"");
}

TEST(Fields, MustUnderstandIsAnArrayOfStrings) {
  EXPECT_TRUE(FromValue<Outer>(ValueMap{{"must_understand", ValueArray{"flag"}}}).ok());
  EXPECT_EQ(FromValue<Outer>(ValueMap{{"must_understand", ValueArray{"new"}}}).status().code(),
            StatusCode::kUnimplemented);
  EXPECT_EQ(FromValue<Outer>(ValueMap{{"must_understand", "flag"}}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_FALSE(FromValue<Outer>(ValueMap{{"must_understand", ValueArray{1}}}).ok());
}

}  // namespace
}  // namespace packcast
